"""torch -> one ONNX graph per persona, compared with torch on real crops before anyone gets it.

    input   "face" (1, 3, S, S) RGB float32 0..1
    outputs "face" (1, 3, T, T) RGB 0..1, "mask" (1, 1, T, T) 0..1, "code" (1, C)

ONNX wants every value named once, so the input is "face" and the output of the same name would collide: see ``FACE_OUT``.
"""
