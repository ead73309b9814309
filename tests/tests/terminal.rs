//! An interactive shell on a terminal: prompt, job control, editing, programs that draw, and a sane terminal afterwards.

use std::os::unix::process::ExitStatusExt;

use harness::{Backend, Linux, Terminal};

fn bash(backend: Backend) -> Terminal {
    let linux = Linux::hostfs(backend).args([
        "rw",
        "con=null",
        "con0=fd:0,fd:1",
        "TERM=xterm",
        "init=/bin/bash",
        "--",
        "--norc",
        "-i",
    ]);
    let mut terminal = Terminal::spawn(linux.command());
    terminal.expect("# ");
    terminal.send("mount -t proc proc /proc\n");
    terminal.send("PS1='guest> '\n");
    terminal.expect("guest> ");
    terminal.expect("guest> ");
    terminal
}

fn end(mut terminal: Terminal) {
    terminal.send("exit\n");
    let status = terminal.wait();
    assert_eq!(
        status.signal(),
        Some(6),
        "init died: a panic, as in UML; seen:\n{}",
        terminal.seen()
    );
    assert!(terminal.is_sane(), "the terminal is left raw");
}

#[test]
fn a_shell_has_a_prompt_echo_and_line_editing() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("echo hello | tr a-z A-Z\n");
        terminal.expect("HELLO");
        run(&mut terminal, "cat");
        terminal.send("one\x7f\x7f\x7ftwo\n");
        terminal.expect("\ntwo");
        terminal.send("\x04");
        terminal.expect("guest> ");
        end(terminal);
    }
}

/// Runs `command` in the foreground and returns when it has the terminal.
fn run(terminal: &mut Terminal, command: &str) {
    terminal.send(&format!("sh -c 'echo started; exec {command}'\n"));
    terminal.expect("started\r");
}

#[test]
fn interrupt_stop_foreground_and_background_work() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        run(&mut terminal, "sleep 1000");
        terminal.send("\x03");
        terminal.expect("guest> ");
        terminal.send("echo status $?\n");
        terminal.expect("status 130");
        run(&mut terminal, "sleep 1001");
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.send("bg\n");
        terminal.expect("sleep 1001");
        terminal.send("jobs\n");
        terminal.expect("Running");
        terminal.send("kill -INT %1; wait\n");
        terminal.expect("guest> ");
        terminal.send("cat & sleep 1; jobs; kill %1; wait; echo end of $((1 + 1))\n");
        terminal.expect("Stopped");
        terminal.expect("end of 2");
        end(terminal);
    }
}

#[test]
fn the_window_size_follows_the_host() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("stty size\n");
        terminal.expect("24 80");
        terminal.send(
            "n=; trap 'n=1; echo re''sized' WINCH; echo loop''ing; until [ $n ]; do sleep 0.01; done; echo seen: $(stty size)\n",
        );
        terminal.expect("looping");
        terminal.resize(50, 132);
        terminal.expect("resized");
        terminal.expect("seen: 50 132");
        end(terminal);
    }
}

#[test]
fn less_vi_and_top_draw() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("seq 1000 | less\n");
        terminal.expect("23");
        terminal.send("G");
        terminal.expect("1000");
        terminal.send("q");
        terminal.expect("guest> ");
        terminal.send("top -n 1 -b | head -3; top\n");
        terminal.expect("load average");
        terminal.expect("PID USER");
        terminal.send("q");
        terminal.expect("guest> ");
        terminal.send("rm -f /tmp/.vi-test*; vi /tmp/.vi-test-$$\n");
        terminal.expect("~");
        terminal.send("iwritten in vi\x1b:wq\n");
        terminal.expect("guest> ");
        terminal.send("cat /tmp/.vi-test-$$; rm -f /tmp/.vi-test-$$\n");
        terminal.expect("written in vi");
        end(terminal);
    }
}

#[test]
fn busybox_as_init_finds_its_applets_before_proc_is_mounted() {
    for backend in Backend::ALL {
        let linux = Linux::hostfs(backend).args(["con=null", "con0=fd:0,fd:1", "init=/bin/busybox", "--", "sh"]);
        let mut terminal = Terminal::spawn(linux.command());
        terminal.expect("# ");
        // The shell starts its applets by /proc/self/exe where there is one.
        terminal.send("expr 40 + 2; readlink /proc/self || echo no self\n");
        terminal.expect("\n42");
        terminal.expect("\nno self");
        terminal.send("mount -t proc proc /proc && readlink /proc/self/exe\n");
        terminal.expect("\n/");
        terminal.expect("busybox");
    }
}
