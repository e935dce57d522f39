# Loops of multiply-adds that live in registers or tiles alone, one section for each instruction path.
# scripts/assemble_loops.py assembles this file and writes each section's bytes to
# src/nameplate/silicon/data/loops.toml, and the disassembly beside it.
#
# Every section is one function, void f(struct block *), for the System V calling convention:
#
#   offset    0  start    value of the time stamp counter to wait for before the first round
#             8  rounds   rounds to run; each writes three stamps: before the loop, between loop and chain, after
#            16  turns    turns of the loop in a round
#            24  chain    turns of the chain in a round: 50 adds, each of which needs the one before it
#            32  stamps   address of 3 × rounds 64-bit words
#            40  results  address of 4 KiB for the accumulators as they stand at the end
#            64  tiles    64 bytes for LDTILECFG: palette 1, eight tiles of 16 rows of 64 bytes
#           128  a        1 KiB: the first operand, one row of 64 bytes or a tile of 16 rows
#          1152  b        1 KiB: the second operand
#
# Accumulators start at zero and are more than latency × instructions a cycle on any core known, so that no
# multiply-add waits for another.

# ---- what every function begins and ends with ----

.macro BEGIN name
    .section .text.\name, "ax", @progbits
    mov     0(%rdi), %r8
    mov     8(%rdi), %r9
    mov     32(%rdi), %rsi
.endm

.macro READ_COUNTER              # to rax; waits until every instruction before it is done
    lfence
    rdtsc
    shl     $32, %rdx
    or      %rdx, %rax
.endm

.macro STAMP offset
    READ_COUNTER
    mov     %rax, \offset(%rsi)
.endm

.macro LOOP                      # what follows is repeated; ENDLOOP closes it
1:  pause
    READ_COUNTER
    cmp     %r8, %rax
    jb      1b
2:  STAMP   0
    mov     16(%rdi), %rcx
    .p2align 6
3:
.endm

.macro ENDLOOP
    dec     %rcx
    jnz     3b
    STAMP   8
    mov     24(%rdi), %rcx
4:  .rept 50
    add     %rdx, %rax           # a register, not a constant: Golden Cove folds chains of add-immediate
    .endr
    dec     %rcx
    jnz     4b
    STAMP   16
    add     $24, %rsi
    dec     %r9
    jnz     2b
    mov     40(%rdi), %rdx
.endm

# ---- vectors: `count` accumulators of class `register`, operands in the two registers after them ----

.macro CLEAR register, number
    .ifc \register, zmm
    vpxord  %zmm\number, %zmm\number, %zmm\number
    .else
    .if \number < 16
    vpxor   %ymm\number, %ymm\number, %ymm\number
    .else
    vpxord  %ymm\number, %ymm\number, %ymm\number
    .endif
    .endif
.endm

.macro EACH instruction, register, a, b, number
    \instruction %\register\b, %\register\a, %\register\number
.endm

.macro STORE register, size, number
    vmovups %\register\number, (\number * \size)(%rdx)
.endm

.altmacro
.macro VECTORS name, instruction, register, size, count
    BEGIN   \name
    LOCAL a, b
    a = \count
    b = \count + 1
    vmovups_operands \register, %a, %b
    number = 0
    .rept \count
    CLEAR   \register, %number
    number = number + 1
    .endr
    LOOP
    number = 0
    .rept \count
    EACH    <\instruction>, \register, %a, %b, %number
    number = number + 1
    .endr
    ENDLOOP
    number = 0
    .rept \count
    STORE   \register, \size, %number
    number = number + 1
    .endr
    vzeroupper
    ret
.endm

.macro vmovups_operands register, a, b
    vmovups 128(%rdi), %\register\a
    vmovups 1152(%rdi), %\register\b
.endm

VECTORS fp32-avx2,         vfmadd231ps,      ymm, 32, 14
VECTORS fp64-avx2,         vfmadd231pd,      ymm, 32, 14
VECTORS int8-avx-vnni,     <{vex} vpdpbusd>, ymm, 32, 14
VECTORS fp32-avx512,       vfmadd231ps,      zmm, 64, 24
VECTORS fp64-avx512,       vfmadd231pd,      zmm, 64, 24
VECTORS fp16-avx512,       vfmadd231ph,      zmm, 64, 24
VECTORS bf16-avx512-ymm,   vdpbf16ps,        ymm, 32, 24
VECTORS bf16-avx512-zmm,   vdpbf16ps,        zmm, 64, 24
VECTORS int8-avx512-ymm,   <{evex} vpdpbusd>, ymm, 32, 24
VECTORS int8-avx512-zmm,   vpdpbusd,         zmm, 64, 24

# ---- tiles: four accumulators, two tiles of each operand ----

.macro TILES name, instruction
    BEGIN   \name
    ldtilecfg 64(%rdi)
    mov     $64, %ecx            # bytes from one row to the next
    lea     128(%rdi), %rdx
    tileloadd (%rdx,%rcx,1), %tmm4
    tileloadd (%rdx,%rcx,1), %tmm5
    lea     1152(%rdi), %rdx
    tileloadd (%rdx,%rcx,1), %tmm6
    tileloadd (%rdx,%rcx,1), %tmm7
    tilezero %tmm0
    tilezero %tmm1
    tilezero %tmm2
    tilezero %tmm3
    LOOP
    .rept 2
    \instruction %tmm6, %tmm4, %tmm0
    \instruction %tmm7, %tmm4, %tmm1
    \instruction %tmm6, %tmm5, %tmm2
    \instruction %tmm7, %tmm5, %tmm3
    .endr
    ENDLOOP
    mov     $64, %ecx
    tilestored %tmm0, 0(%rdx,%rcx,1)
    tilestored %tmm1, 1024(%rdx,%rcx,1)
    tilestored %tmm2, 2048(%rdx,%rcx,1)
    tilestored %tmm3, 3072(%rdx,%rcx,1)
    tilerelease
    ret
.endm

TILES bf16-amx, tdpbf16ps
TILES fp16-amx, tdpfp16ps
TILES int8-amx, tdpbssd
