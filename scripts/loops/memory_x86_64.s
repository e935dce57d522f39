# Loops that move memory, one section for each instruction set and kind: STREAM's four, a read, a write.
# scripts/assemble_loops.py assembles this file and writes each section's bytes to
# kernels/nameplate_kernels/data/memory_loops.toml, and the disassembly beside it.
#
# Every section is one function for the System V calling convention:
#
#   void f(void *a, const void *b, const void *c, uint64_t bytes, uint64_t passes, float s)
#          %rdi     %rsi           %rdx           %rcx            %r8              %xmm0
#
# It goes through `bytes` of each array `passes` times: arrays aligned to 64 bytes, `bytes` a multiple of 512 above 0.
# copy: a = b; scale: a = s·b; add: a = b + c; triad: a = b + s·c; write: a = s; all in fp32.
# read: XORs every word of b into registers, and their XOR into the first 64 bytes of a.


.macro NEXT step                 # closes a pass: what stands between label 6 and this is repeated
    add     $\step, %rax
    cmp     %rcx, %rax
    jb      6b
    dec     %r8
    jnz     5b
    vzeroupper
    ret
.endm

.macro BEGIN
5:  xor     %eax, %eax
    .p2align 6
6:
.endm

# isa: end of the section's name; v: registers; size: their bytes; xor: its XOR of integers
.macro KINDS isa, v, size, xor
    .section .text.copy-\isa, "ax", @progbits
    BEGIN
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vmovaps \n*\size(%rsi,%rax), %\v\n
    vmovaps %\v\n, \n*\size(%rdi,%rax)
    .endr
    NEXT    8*\size

    .section .text.scale-\isa, "ax", @progbits
    vbroadcastss %xmm0, %\v\()15
    BEGIN
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vmulps  \n*\size(%rsi,%rax), %\v\()15, %\v\n
    vmovaps %\v\n, \n*\size(%rdi,%rax)
    .endr
    NEXT    8*\size

    .section .text.add-\isa, "ax", @progbits
    BEGIN
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vmovaps \n*\size(%rsi,%rax), %\v\n
    vaddps  \n*\size(%rdx,%rax), %\v\n, %\v\n
    vmovaps %\v\n, \n*\size(%rdi,%rax)
    .endr
    NEXT    8*\size

    .section .text.triad-\isa, "ax", @progbits
    vbroadcastss %xmm0, %\v\()15
    BEGIN
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vmulps  \n*\size(%rdx,%rax), %\v\()15, %\v\n
    vaddps  \n*\size(%rsi,%rax), %\v\n, %\v\n
    vmovaps %\v\n, \n*\size(%rdi,%rax)
    .endr
    NEXT    8*\size

    .section .text.write-\isa, "ax", @progbits
    vbroadcastss %xmm0, %\v\()15
    BEGIN
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vmovaps %\v\()15, \n*\size(%rdi,%rax)
    .endr
    NEXT    8*\size

    .section .text.read-\isa, "ax", @progbits
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    \xor    %\v\n, %\v\n, %\v\n
    .endr
7:  xor     %eax, %eax
    .p2align 6
8:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    \xor    \n*\size(%rsi,%rax), %\v\n, %\v\n
    .endr
    add     $8*\size, %rax
    cmp     %rcx, %rax
    jb      8b
    dec     %r8
    jnz     7b
    .irp n, 1, 2, 3, 4, 5, 6, 7
    \xor    %\v\n, %\v\()0, %\v\()0
    .endr
    vmovaps %\v\()0, (%rdi)
    vzeroupper
    ret
.endm

KINDS avx2, ymm, 32, vpxor
KINDS avx512, zmm, 64, vpxord
