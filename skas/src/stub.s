# The stub: the only code of ours in a guest's address space. Position-independent, no data but two words at its end.
#
# Registers: rbx = this thread's region, r15 = its ucontext. The signal frame keeps the guest's registers, so all others are free.
# Region offsets and commands are those of region.rs. A label `skas_ip_*` stands behind the one instruction that may issue that
# host call: the filter (filter.rs) compares the instruction pointer with it, so every call has an instruction of its own.
# Guest code can jump anywhere in here with any registers. It gains nothing: each call's arguments are checked by the filter.

    .pushsection .rodata.skas_stub,"a",@progbits
    .balign 64
    .globl skas_stub_start
skas_stub_start:

# Every signal lands here: rdi = number, rsi = siginfo, rdx = ucontext, all signals but SIGSEGV and SIGBUS blocked.
    .globl skas_stub_handler
skas_stub_handler:
    mov rbx, qword ptr [rip + skas_stub_mask]
    and rbx, rsp
    mov rax, [rdx + 168]
    lea rcx, [rip + skas_stub_guarded]
    cmp rax, rcx
    jne 4f
    # The guarded access to guest memory failed: go on at its fix-up.
    lea rcx, [rip + skas_stub_fixup]
    mov [rdx + 168], rcx
    mov rsp, rdx
    jmp skas_stub_return
4:
    mov r15, rdx
    mov [rbx + 0x40], edi
    sub rsi, rbx
    mov [rbx + 0x44], esi
    sub rdx, rbx
    mov [rbx + 0x48], edx
    mov dword ptr [rbx + 0x4c], 1
    test byte ptr [rbx + 0x78], 1
    jz skas_stub_hand_over
    rdfsbase rax
    mov [rbx + 0x60], rax
    rdgsbase rax
    mov [rbx + 0x68], rax

# Give the word to the kernel; wake its thread if it sleeps.
skas_stub_hand_over:
    test byte ptr [rbx + 0x78], 2
    jnz skas_stub_trap
    xor eax, eax
    xchg [rbx], eax
    test eax, 2
    jz skas_stub_wait
    mov rdi, rbx
    mov esi, 1
    mov edx, 1
    mov eax, 202
    syscall
    .globl skas_ip_wake
skas_ip_wake:

# Until the kernel gives the word back.
skas_stub_wait:
    test byte ptr [rbx + 0x78], 2
    jnz skas_stub_trap
    cmp qword ptr [rbx + 0x70], 0
    je 3f
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r9, rax
2:
    test dword ptr [rbx], 1
    jnz skas_stub_command
    pause
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r9
    # Looked at anew each time: the kernel sets it to 0 when it runs another thread.
    cmp rax, [rbx + 0x70]
    jb 2b
3:
    mov eax, [rbx]
    test eax, 1
    jnz skas_stub_command
    # The waiter bit must be set before the last look at the word (the host's, inside FUTEX_WAIT), or a wake-up is lost.
    mov edx, eax
    or edx, 2
    lock cmpxchg [rbx], edx
    jne 3b
    mov rdi, rbx
    xor esi, esi
    xor r10d, r10d
    mov eax, 202
    syscall
    .globl skas_ip_park
skas_ip_park:
    jmp 3b

# ptrace backend: a breakpoint stops us, the tracer goes on at skas_stub_command.
skas_stub_trap:
    int3
    .globl skas_ip_trap
skas_ip_trap:

    .globl skas_stub_command
skas_stub_command:
    mov r14d, [rbx + 0x7c]
    test r14d, 0x10
    jz skas_stub_action

# Mapping changes: receive the files, run the operations in order, close the files.
    mov r12d, [rbx + 0x88]
    cmp dword ptr [rbx + 0x84], 0
    je 4f
    xor edi, edi
    lea rsi, [rbx + 0xc0]
    mov edx, 0x40000000
    mov eax, 47
    syscall
    .globl skas_ip_recvmsg
skas_ip_recvmsg:
    mov dword ptr [rbx + 0x54], -1
    xor r12d, r12d
    test rax, rax
    jz 9f
    js 8f
    mov r12d, [rbx + 0x88]
4:
    xor r13d, r13d
    lea rbp, [rbx + 0x200]
2:
    cmp r13d, [rbx + 0x80]
    jae skas_stub_batch_done
    mov eax, [rbp]
    movsxd rcx, dword ptr [rbp + 4]
    mov rdi, [rbp + 8]
    mov rsi, [rbp + 16]
    mov rdx, [rbp + 24]
    mov r10, [rbp + 32]
    mov r8, [rbp + 40]
    mov r9, [rbp + 48]
    cmp eax, 1
    jb skas_stub_mmap
    je skas_stub_munmap
    cmp eax, 3
    jb skas_stub_mprotect
    je skas_stub_mremap
    cmp eax, 5
    jb skas_stub_madvise
    je skas_stub_cmpxchg
    mov rax, -38
    jmp 3f
skas_stub_mmap:
    test rcx, rcx
    js 4f
    movsxd r8, dword ptr [rbx + rcx * 4 + 0x120]
4:
    mov eax, 9
    syscall
    .globl skas_ip_mmap
skas_ip_mmap:
    jmp 3f
skas_stub_munmap:
    mov eax, 11
    syscall
    .globl skas_ip_munmap
skas_ip_munmap:
    jmp 3f
skas_stub_mprotect:
    mov eax, 10
    syscall
    .globl skas_ip_mprotect
skas_ip_mprotect:
    jmp 3f
skas_stub_mremap:
    mov eax, 25
    syscall
    .globl skas_ip_mremap
skas_ip_mremap:
    jmp 3f
skas_stub_madvise:
    mov eax, 28
    syscall
    .globl skas_ip_madvise
skas_ip_madvise:
    jmp 3f
skas_stub_cmpxchg:
    mov eax, esi
skas_stub_guarded:
    lock cmpxchg [rdi], edx
    mov [rbx + 0xa8], rax
    xor eax, eax
    jmp 3f
skas_stub_fixup:
    mov rax, -14
3:
    cmp rax, -4095
    jae 7f
    add rbp, 56
    inc r13d
    jmp 2b
7:
    # On failure the files of a following fork are not kept either.
    mov r12d, [rbx + 0x84]
    mov [rbx + 0x54], r13d
8:
    mov [rbx + 0x50], eax
    mov dword ptr [rbx + 0x4c], 3
    # The action becomes "report".
    mov r14d, 5
    jmp skas_stub_close_all
9:
    mov eax, -32
    jmp 8b
skas_stub_batch_done:
    mov dword ptr [rbx + 0x50], 0
skas_stub_close_all:
    xor ebp, ebp
4:
    cmp ebp, r12d
    jae 2f
    mov edi, [rbx + rbp * 4 + 0x120]
    call skas_stub_close
    inc ebp
    jmp 4b
2:
    # Sibling threads may run from here on.
    mov eax, [rbx + 0x8c]
    mov [rbx + 0x58], eax
skas_stub_action:
    mov eax, r14d
    and eax, 15
    cmp eax, 1
    jb skas_stub_resume
    je skas_stub_report
    cmp eax, 3
    jb skas_stub_fork
    je skas_stub_thread
    cmp eax, 5
    jb skas_stub_exit
    jmp skas_stub_hand_over
skas_stub_report:
    mov dword ptr [rbx + 0x4c], 2
    jmp skas_stub_hand_over

# Back to the guest through the frame.
skas_stub_resume:
    test r14d, 0x20
    jz 2f
    test byte ptr [rbx + 0x78], 1
    jz 4f
    mov rax, [rbx + 0x60]
    wrfsbase rax
    mov rax, [rbx + 0x68]
    wrgsbase rax
    jmp 2f
4:
    mov edi, 0x1002
    mov rsi, [rbx + 0x60]
    mov eax, 158
    syscall
    .globl skas_ip_set_fs
skas_ip_set_fs:
    mov edi, 0x1001
    mov rsi, [rbx + 0x68]
    mov eax, 158
    syscall
    .globl skas_ip_set_gs
skas_ip_set_gs:
2:
    mov rsp, r15
    .globl skas_stub_return
skas_stub_return:
    mov eax, 15
    syscall
    .globl skas_ip_sigreturn
skas_ip_sigreturn:
    ud2

# A new process. r12 = the child's region (memfd), r13 = its control socket, r14 = the kernel's process id.
skas_stub_fork:
    mov eax, [rbx + 0x90]
    mov r12d, [rbx + rax * 4 + 0x120]
    mov r13d, [rbx + rax * 4 + 0x124]
    mov r14d, [rbx + 0x98]
    xor ebp, ebp
    mov edi, 0x8011
skas_stub_clone:
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    mov eax, 56
    syscall
    .globl skas_ip_clone
skas_ip_clone:
    test rax, rax
    jz skas_stub_child
    mov [rbx + 0xa8], rax
    test ebp, ebp
    jnz skas_stub_report
    mov edi, r12d
    call skas_stub_close
    mov edi, r13d
    call skas_stub_close
    jmp skas_stub_report
skas_stub_child:
    test ebp, ebp
    jnz skas_stub_new_thread
    # The region is not inherited (MADV_DONTFORK): no stack until our own is mapped in its place.
    mov edi, 1
    mov esi, 9
    mov eax, 157
    syscall
    .globl skas_ip_pdeathsig
skas_ip_pdeathsig:
    mov eax, 110
    syscall
    .globl skas_ip_getppid
skas_ip_getppid:
    cmp eax, r14d
    jne skas_stub_die
    mov rdi, rbx
    mov r8d, r12d
    lea rbp, [rip + 4f]
    jmp skas_stub_map_region
4:
    cmp rax, rbx
    jne skas_stub_die
    mov edi, r12d
    call skas_stub_close
    mov edi, r13d
    xor esi, esi
    mov eax, 33
    syscall
    .globl skas_ip_dup2
skas_ip_dup2:
    mov edi, r13d
    call skas_stub_close
    jmp skas_stub_wait

# A new thread. r13 = its region, mapped here first unless it was before.
skas_stub_thread:
    mov r13, [rbx + 0x98]
    movsxd rax, dword ptr [rbx + 0x90]
    test rax, rax
    js 2f
    mov r12d, [rbx + rax * 4 + 0x120]
    mov rdi, r13
    mov r8d, r12d
    lea rbp, [rip + 4f]
    jmp skas_stub_map_region
4:
    mov [rbx + 0xa8], rax
    mov edi, r12d
    call skas_stub_close
    cmp r13, [rbx + 0xa8]
    jne skas_stub_report
2:
    mov ebp, 1
    mov edi, 0x50f00
    jmp skas_stub_clone
skas_stub_new_thread:
    sub rsp, rbx
    add rsp, r13
    sub r15, rbx
    add r15, r13
    mov rbx, r13
    jmp skas_stub_wait

# The end of this thread: after the exchange the region belongs to the kernel and is not touched again.
skas_stub_exit:
    test byte ptr [rbx + 0x78], 2
    jnz 4f
    xor eax, eax
    xchg [rbx], eax
    test eax, 2
    jz 4f
    mov rdi, rbx
    mov esi, 1
    mov edx, 1
    mov eax, 202
    syscall
    .globl skas_ip_last_wake
skas_ip_last_wake:
4:
    xor edi, edi
    mov eax, 60
    syscall
    .globl skas_ip_exit
skas_ip_exit:
skas_stub_die:
    mov edi, 1
    mov eax, 231
    syscall
    .globl skas_ip_exit_group
skas_ip_exit_group:
    ud2

# rdi = address, r8 = file; returns to rbp with rax = address or error.
skas_stub_map_region:
    mov rsi, qword ptr [rip + skas_stub_region_size]
    mov edx, 3
    mov r10d, 0x8011
    xor r9d, r9d
    mov eax, 9
    syscall
    .globl skas_ip_map_region
skas_ip_map_region:
    cmp rax, -4095
    jae 4f
    mov rdi, rax
    mov r9, rax
    mov edx, 10
    mov eax, 28
    syscall
    .globl skas_ip_dontfork
skas_ip_dontfork:
    mov rax, r9
4:
    jmp rbp

# edi = descriptor
skas_stub_close:
    mov eax, 3
    syscall
    .globl skas_ip_close
skas_ip_close:
    ret

# ptrace backend: any one call, made by the tracer. The filter of the other backend kills here.
    .globl skas_stub_call
skas_stub_call:
    syscall
    int3
    .globl skas_ip_called
skas_ip_called:
    ud2

# The entry of the program (program.rs), wherever its file is loaded; r15 = there, the page before holds the header and what we need.
# Descriptors: 0 = control socket, 1 = the program's file, 2 = the region. Nothing but registers is used: the stack may lie where the
# code belongs.
    .globl skas_stub_entry
skas_stub_entry:
    lea r15, [rip + skas_stub_start]
    mov edi, 1
    mov esi, 9
    mov eax, 157
    syscall
    mov eax, 110
    syscall
    cmp eax, [r15 - 0xe00]
    jne skas_stub_die
    mov rdi, [r15 - 0xdf8]
    mov rsi, [r15 - 0xdf0]
    mov edx, 5
    mov r10d, 0x12
    mov r8d, 1
    mov r9d, 4096
    mov eax, 9
    syscall
    cmp rax, rdi
    jne skas_stub_die
    lea rbp, [rip + skas_stub_init]
    sub rbp, r15
    add rbp, rax
    mov rbx, [r15 - 0xde8]
    mov rdi, rbx
    mov r8d, 2
    jmp skas_stub_map_region

# The first steps of the zygote, at the code's own place: run the host calls listed in the region (setup.rs). With a filter, its
# installation is the last of them. rax = address of the region or error.
skas_stub_init:
    cmp rax, rbx
    jne skas_stub_die
    mov r13d, [rbx + 0x80]
    lea rbp, [rbx + 0x200]
4:
    mov eax, [rbp]
    mov rdi, [rbp + 8]
    mov rsi, [rbp + 16]
    mov rdx, [rbp + 24]
    mov r10, [rbp + 32]
    mov r8, [rbp + 40]
    mov r9, [rbp + 48]
    syscall
    mov [rbp + 8], rax
    add rbp, 56
    dec r13d
    jnz 4b
    # The first frame comes from a real signal: its shape is the host's.
    ud2

    .balign 8
    .globl skas_stub_mask
skas_stub_mask:
    .quad 0
    .globl skas_stub_region_size
skas_stub_region_size:
    .quad 0
    .globl skas_stub_end
skas_stub_end:
    .popsection
