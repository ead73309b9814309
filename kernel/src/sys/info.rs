//! `sysinfo(2)` and `getcpu(2)`.

use super::loadavg;
use super::memory;
use crate::syscall::Context;
use crate::task::table;
use crate::user::UserPtr;
use crate::{Result, abi_struct};

abi_struct! {
    /// `struct sysinfo`.
    pub struct SysinfoAbi {
        /// Seconds since boot.
        pub uptime: i64,
        /// Load averages, times 65536.
        pub loads: [u64; 3],
        /// Memory in all, in units of `mem_unit`.
        pub total_ram: u64,
        /// Unused memory.
        pub free_ram: u64,
        /// Memory of tmpfs and shared memory.
        pub shared_ram: u64,
        /// Memory of block device buffers.
        pub buffer_ram: u64,
        /// Swap space: there is none.
        pub total_swap: u64,
        /// Swap space still free.
        pub free_swap: u64,
        /// Tasks.
        pub procs: u16,
        /// Padding.
        pub pad0: [u8; 6],
        /// High memory: none on 64 bits.
        pub total_high: u64,
        /// High memory.
        pub free_high: u64,
        /// Bytes of the memory unit.
        pub mem_unit: u32,
        /// Padding.
        pub pad1: u32,
    }
}

/// `sysinfo(2)`.
pub fn sys_sysinfo(_cx: &Context, out: UserPtr<SysinfoAbi>) -> Result<usize> {
    let used = memory::usage();
    let info = SysinfoAbi {
        uptime: arch_um::time::uptime().as_secs() as i64,
        // Fixed point with 11 bits inside, with 16 outside.
        loads: loadavg::averages().map(|load| load << 5),
        total_ram: used.total,
        free_ram: used.free,
        shared_ram: used.shared,
        procs: u16::try_from(table::task_count()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..SysinfoAbi::default()
    };
    out.write(&info)?;
    Ok(0)
}

/// `getcpu(2)`: there is one memory node.
pub fn sys_getcpu(_cx: &Context, cpu: UserPtr<u32>, node: UserPtr<u32>) -> Result<usize> {
    if let Some(cpu) = cpu.non_null() {
        cpu.write(&arch_um::cpu::current().0)?;
    }
    if let Some(node) = node.non_null() {
        node.write(&0)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::SysinfoAbi;
    use crate::abi::Abi;

    #[test]
    fn sysinfo_has_the_size_programs_expect() {
        assert_eq!(SysinfoAbi::SIZE, 112);
    }
}
