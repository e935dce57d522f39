// Loops that move memory, as scripts/loops/memory_x86_64.s has them, for the procedure call standard of Arm:
//
//   void f(void *a, const void *b, const void *c, uint64_t bytes, uint64_t passes, float s)
//          x0       x1             x2             x3              x4               s0

.macro BEGIN
5:  mov     x5, x0
    mov     x6, x1
    mov     x7, x2
    mov     x8, x3
    .p2align 6
6:
.endm

.macro NEXT
    subs    x8, x8, #128
    b.ne    6b
    subs    x4, x4, #1
    b.ne    5b
    ret
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

    .section .text.copy-neon, "ax", @progbits
    BEGIN
    LOAD_B
    STORE
    NEXT

    .section .text.scale-neon, "ax", @progbits
    BEGIN
    LOAD_B
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23
    fmul    v\n\().4s, v\n\().4s, v0.s[0]
    .endr
    STORE
    NEXT

    .section .text.add-neon, "ax", @progbits
    BEGIN
    LOAD_B
    LOAD_C
    fadd    v16.4s, v16.4s, v24.4s
    fadd    v17.4s, v17.4s, v25.4s
    fadd    v18.4s, v18.4s, v26.4s
    fadd    v19.4s, v19.4s, v27.4s
    fadd    v20.4s, v20.4s, v28.4s
    fadd    v21.4s, v21.4s, v29.4s
    fadd    v22.4s, v22.4s, v30.4s
    fadd    v23.4s, v23.4s, v31.4s
    STORE
    NEXT

    .section .text.triad-neon, "ax", @progbits
    BEGIN
    LOAD_B
    LOAD_C
    .irp n, 24, 25, 26, 27, 28, 29, 30, 31
    fmul    v\n\().4s, v\n\().4s, v0.s[0]
    .endr
    fadd    v16.4s, v16.4s, v24.4s
    fadd    v17.4s, v17.4s, v25.4s
    fadd    v18.4s, v18.4s, v26.4s
    fadd    v19.4s, v19.4s, v27.4s
    fadd    v20.4s, v20.4s, v28.4s
    fadd    v21.4s, v21.4s, v29.4s
    fadd    v22.4s, v22.4s, v30.4s
    fadd    v23.4s, v23.4s, v31.4s
    STORE
    NEXT

    .section .text.write-neon, "ax", @progbits
    dup     v16.4s, v0.s[0]
    .irp n, 17, 18, 19, 20, 21, 22, 23
    mov     v\n\().16b, v16.16b
    .endr
    BEGIN
    STORE
    NEXT

    .section .text.read-neon, "ax", @progbits
    .irp n, 24, 25, 26, 27, 28, 29, 30, 31
    movi    v\n\().4s, #0
    .endr
7:  mov     x6, x1
    mov     x8, x3
    .p2align 6
8:  LOAD_B
    eor     v24.16b, v24.16b, v16.16b
    eor     v25.16b, v25.16b, v17.16b
    eor     v26.16b, v26.16b, v18.16b
    eor     v27.16b, v27.16b, v19.16b
    eor     v28.16b, v28.16b, v20.16b
    eor     v29.16b, v29.16b, v21.16b
    eor     v30.16b, v30.16b, v22.16b
    eor     v31.16b, v31.16b, v23.16b
    subs    x8, x8, #128
    b.ne    8b
    subs    x4, x4, #1
    b.ne    7b
    .irp n, 25, 26, 27, 28, 29, 30, 31
    eor     v24.16b, v24.16b, v\n\().16b
    .endr
    str     q24, [x0]
    ret
