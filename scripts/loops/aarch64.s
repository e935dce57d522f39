// Loops of multiply-adds that live in registers alone: x86_64.s has the plan and the layout of the block.
// Here the counter is the architecture's virtual counter, and the calling convention AAPCS64, which leaves
// v0 to v7 and v16 to v31 free: 22 accumulators and two operands.

.macro ACCUMULATORS do, arguments:vararg
    .irp number, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23,24,25,26,27,28,29
    \do     \number, \arguments
    .endr
.endm

.macro CLEAR number, none
    movi    v\number\().2d, #0
.endm

.macro STORE number, none
    str     q\number, [x11], #16
.endm

.macro MULTIPLY number, instruction, sum, operand
    \instruction v\number\().\sum, v30.\operand, v31.\operand
.endm

.macro STAMP offset
    isb
    mrs     x12, cntvct_el0
    str     x12, [x10, #\offset]
.endm

.macro VECTORS name, instruction, sum, operand
    .section .text.\name, "ax", @progbits
    ldp     x8, x9, [x0]         // start, rounds
    ldr     x10, [x0, #32]       // stamps
    ldr     q30, [x0, #128]
    ldr     q31, [x0, #1152]
    ACCUMULATORS CLEAR
1:  isb
    mrs     x12, cntvct_el0
    cmp     x12, x8
    b.lo    1b
2:  STAMP   0
    ldr     x13, [x0, #16]       // turns
    .p2align 6
3:  ACCUMULATORS MULTIPLY, \instruction, \sum, \operand
    subs    x13, x13, #1
    b.ne    3b
    STAMP   8
    ldr     x13, [x0, #24]       // turns of the chain
4:  .rept 50
    add     x14, x14, x15
    .endr
    subs    x13, x13, #1
    b.ne    4b
    STAMP   16
    add     x10, x10, #24
    subs    x9, x9, #1
    b.ne    2b
    ldr     x11, [x0, #40]       // results
    ACCUMULATORS STORE
    ret
.endm

.arch armv8.6-a+fp16+fp16fml+bf16+i8mm+dotprod

VECTORS fp32-neon,      fmla,   4s, 4s
VECTORS fp64-neon,      fmla,   2d, 2d
VECTORS fp16-neon,      fmla,   8h, 8h
VECTORS fp16-neon-long, fmlal,  4s, 4h
VECTORS bf16-neon,      bfmmla, 4s, 8h
VECTORS int8-neon-dot,  sdot,   4s, 16b
VECTORS int8-neon,      smmla,  4s, 16b
