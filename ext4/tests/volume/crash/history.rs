//! What a workload did, and what a power failure may have left of it.
//!
//! Names change one operation after the other: after a crash the tree is as some operation left it, none older than the last that was
//! acknowledged. Contents are promised file by file: each byte is as it was at the file's last `fsync`, or as something later made it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::tree::{Thing, Tree};

/// Contents are shifted by multiples of this.
pub const SHIFT: usize = 4096;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Dir,
    /// A body, by its number.
    File(usize),
    Link(Vec<u8>),
}

/// The whole tree, by paths without a leading slash.
pub type Names = BTreeMap<String, Node>;

/// Contents and attributes of a file between two operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// How often its contents were shifted (`FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`).
    pub shifts: u32,
}

impl Body {
    /// As `pwrite`.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[at..end].copy_from_slice(data);
    }
}

/// One file's life: its states with the operation that made each, and its synchronizations (requests by then, operation).
#[derive(Default)]
struct Life {
    states: Vec<(usize, Body)>,
    synced: Vec<(u64, usize)>,
    /// The last operation on one of its names.
    named: usize,
}

/// All operations, counted from 1; 0 is what was there before.
pub struct History {
    /// The tree behind each operation.
    names: Vec<Arc<Names>>,
    /// The disk's requests before each operation.
    starts: Vec<u64>,
    lives: Vec<Life>,
    /// Requests, and the operation that is durable since then.
    acknowledged: Vec<(u64, usize)>,
}

impl History {
    pub fn new() -> Self {
        Self {
            names: vec![Arc::default()],
            starts: vec![0],
            lives: Vec::new(),
            acknowledged: vec![(0, 0)],
        }
    }

    /// Starts the next operation.
    pub fn begin(&mut self, requests: u64) {
        self.starts.push(requests);
        let last = self.now().clone();
        self.names.push(last);
    }

    fn op(&self) -> usize {
        self.names.len() - 1
    }

    fn now(&self) -> &Arc<Names> {
        self.names.last().expect("there is a state before all operations")
    }

    /// The tree as it should be now.
    pub fn names(&self) -> &Names {
        self.now()
    }

    /// The tree, to be changed by the running operation. `touched` are the files whose names change.
    pub fn rename(&mut self, touched: &[usize], change: impl FnOnce(&mut Names)) {
        let op = self.op();
        for &body in touched {
            self.lives[body].named = op;
        }
        if let Some(names) = self.names.last_mut() {
            change(Arc::make_mut(names));
        }
    }

    /// A new, empty file.
    pub fn make(&mut self) -> usize {
        let op = self.op();
        self.lives.push(Life {
            states: vec![(op, Body::default())],
            named: op,
            ..Life::default()
        });
        self.lives.len() - 1
    }

    /// A file as it should be now.
    pub fn body(&self, body: usize) -> &Body {
        &self.lives[body].states.last().expect("a file begins with a state").1
    }

    /// The running operation changes a file.
    pub fn change(&mut self, body: usize, change: impl FnOnce(&mut Body)) {
        let mut next = self.body(body).clone();
        change(&mut next);
        let op = self.op();
        self.lives[body].states.push((op, next));
    }

    /// `fsync` returned.
    pub fn file_synced(&mut self, body: usize, requests: u64) {
        let op = self.op();
        let life = &mut self.lives[body];
        life.synced.push((requests, op));
        self.acknowledged.push((requests, life.named));
    }

    /// `sync` returned.
    pub fn all_synced(&mut self, requests: u64) {
        let op = self.op();
        self.acknowledged.push((requests, op));
        for life in &mut self.lives {
            life.synced.push((requests, op));
        }
    }

    /// Whether `found` may be there when the power failed after the first `requests` requests.
    pub fn allows(&self, requests: u64, found: &Tree) -> Result<(), String> {
        let last = |list: &[(u64, usize)]| list.iter().filter(|(at, _)| *at <= requests).map(|(_, op)| *op).max();
        let oldest = last(&self.acknowledged).unwrap_or(0);
        // What had not begun by then cannot have happened.
        let newest = self.starts.iter().rposition(|&start| start < requests).unwrap_or(0);
        let mut complaint = None;
        for op in (oldest..=newest.max(oldest)).rev() {
            if !has_shape(found, &self.names[op]) {
                continue;
            }
            let outcome = self.names[op].iter().try_for_each(|(path, node)| match node {
                Node::File(body) => {
                    let life = &self.lives[*body];
                    allows_body(life, last(&life.synced).unwrap_or(0), newest, found, path)
                }
                _ => Ok(()),
            });
            match outcome {
                Ok(()) => return Ok(()),
                Err(text) => complaint = complaint.or(Some(format!("as behind operation {op}, but {text}"))),
            }
        }
        Err(complaint.unwrap_or_else(|| {
            format!(
                "the tree is as behind no operation of {oldest}..={newest}\n found {:?}\n oldest {:?}\n newest {:?}",
                found.shape(),
                self.names[oldest],
                self.names[newest]
            )
        }))
    }
}

/// The same paths and kinds, the same text of links, and hard links where they should be.
fn has_shape(found: &Tree, names: &Names) -> bool {
    let mut numbers: BTreeMap<usize, Option<u64>> = BTreeMap::new();
    let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
    for node in names.values() {
        if let Node::File(body) = node {
            *counts.entry(*body).or_default() += 1;
        }
    }
    found.things.len() == names.len()
        && names.iter().all(|(path, node)| match (found.things.get(path), node) {
            (Some(Thing::Dir), Node::Dir) => true,
            (Some(Thing::Link(text)), Node::Link(wanted)) => text == wanted,
            (Some(Thing::File { ino, links, .. }), Node::File(body)) => {
                *numbers.entry(*body).or_insert(*ino) == *ino && *links == Some(counts[body])
            }
            _ => false,
        })
}

/// Whether the file at `path` is as one of the operations `oldest..=newest` left it, byte by byte.
fn allows_body(life: &Life, oldest: usize, newest: usize, found: &Tree, path: &str) -> Result<(), String> {
    let Some(Thing::File { data, xattrs, .. }) = found.things.get(path) else {
        return Err(format!("{path} is no file"));
    };
    let first = life.states.iter().rposition(|(op, _)| *op <= oldest).unwrap_or(0);
    let states: Vec<&Body> = life.states[first..]
        .iter()
        .filter(|(op, _)| *op <= newest)
        .map(|(_, body)| body)
        .collect();
    let (Some(data), Some(xattrs)) = (data, xattrs) else {
        return Err(format!("{path} was not read"));
    };
    for name in xattrs.keys().chain(states.iter().flat_map(|body| body.xattrs.keys())) {
        if !states.iter().any(|body| body.xattrs.get(name) == xattrs.get(name)) {
            return Err(format!("{path} has a wrong value of {name}"));
        }
    }
    if states.iter().any(|body| body.data == *data) {
        return Ok(());
    }
    let sizes = || states.iter().map(|body| body.data.len());
    if sizes().max() < Some(data.len()) || sizes().min() > Some(data.len()) {
        return Err(format!(
            "{path} has {} bytes, not one of {:?}",
            data.len(),
            sizes().collect::<Vec<_>>()
        ));
    }
    // Blocks that were written to at their new place may, when the shift is lost, be seen at their old one.
    let is_shifted = states.iter().any(|body| body.shifts != states[0].shifts);
    for (at, byte) in data.iter().enumerate() {
        let may = |body: &&Body| match is_shifted {
            false => body.data.get(at).map_or(*byte == 0, |wanted| wanted == byte),
            true => {
                *byte == 0
                    || body
                        .data
                        .iter()
                        .skip(at % SHIFT)
                        .step_by(SHIFT)
                        .any(|wanted| wanted == byte)
            }
        };
        if !states.iter().any(may) {
            let wanted: Vec<_> = states.iter().map(|body| body.data.get(at)).collect();
            return Err(format!(
                "{path} holds {byte:#x} at {at} of {}, not one of {wanted:x?}",
                data.len()
            ));
        }
    }
    Ok(())
}
