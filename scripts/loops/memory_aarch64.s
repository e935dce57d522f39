// Loops that move memory, as scripts/loops/memory_x86_64.s has them, for the procedure call standard of Arm:
//
//   void f(void *a, const void *b, const void *c, uint64_t bytes, uint64_t passes, float s)
//          x0       x1             x2             x3              x4               s0
//
// A turn moves 128 bytes of each array: b in q16 to q23, c in q24 to q31.

.macro BEGIN                     // a pass begins at label 5, a turn at 6
5:  mov     x5, x0
    mov     x6, x1
    mov     x7, x2
    mov     x8, x3
    .p2align 6
6:
.endm

.macro NEXT                      // closes turn and pass; what follows comes after the last one
    subs    x8, x8, #128
    b.ne    6b
    subs    x4, x4, #1
    b.ne    5b
.endm

.macro LOAD_B
    ldp     q16, q17, [x6], #32
    ldp     q18, q19, [x6], #32
    ldp     q20, q21, [x6], #32
    ldp     q22, q23, [x6], #32
.endm

.macro LOAD_C
    ldp     q24, q25, [x7], #32
    ldp     q26, q27, [x7], #32
    ldp     q28, q29, [x7], #32
    ldp     q30, q31, [x7], #32
.endm

.macro STORE
    stp     q16, q17, [x5], #32
    stp     q18, q19, [x5], #32
    stp     q20, q21, [x5], #32
    stp     q22, q23, [x5], #32
.endm

.macro PAIRS do, type            // each register of b with its partner of c
    \do     v16.\type, v16.\type, v24.\type
    \do     v17.\type, v17.\type, v25.\type
    \do     v18.\type, v18.\type, v26.\type
    \do     v19.\type, v19.\type, v27.\type
    \do     v20.\type, v20.\type, v28.\type
    \do     v21.\type, v21.\type, v29.\type
    \do     v22.\type, v22.\type, v30.\type
    \do     v23.\type, v23.\type, v31.\type
.endm

    .section .text.copy-neon, "ax", @progbits
    BEGIN
    LOAD_B
    STORE
    NEXT
    ret

    .section .text.scale-neon, "ax", @progbits
    BEGIN
    LOAD_B
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23
    fmul    v\n\().4s, v\n\().4s, v0.s[0]
    .endr
    STORE
    NEXT
    ret

    .section .text.add-neon, "ax", @progbits
    BEGIN
    LOAD_B
    LOAD_C
    PAIRS   fadd, 4s
    STORE
    NEXT
    ret

    .section .text.triad-neon, "ax", @progbits
    BEGIN
    LOAD_B
    LOAD_C
    .irp n, 24, 25, 26, 27, 28, 29, 30, 31
    fmul    v\n\().4s, v\n\().4s, v0.s[0]
    .endr
    PAIRS   fadd, 4s
    STORE
    NEXT
    ret

    .section .text.write-neon, "ax", @progbits
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23
    dup     v\n\().4s, v0.s[0]
    .endr
    BEGIN
    STORE
    NEXT
    ret

    .section .text.read-neon, "ax", @progbits
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23
    movi    v\n\().4s, #0
    .endr
    mov     x2, x1               // the words of b, into the registers of c
    BEGIN
    LOAD_C
    PAIRS   eor, 16b
    NEXT
    .irp n, 17, 18, 19, 20, 21, 22, 23
    eor     v16.16b, v16.16b, v\n\().16b
    .endr
    str     q16, [x0]
    ret
