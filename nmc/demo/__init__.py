"""The bundled network and real digits that ``nmc demo`` runs.

`digits_cnn.onnx` is a small ReLU network (examples/train_digits.py). `digits.npz` is its
test part and `digits_calib.npz` its calibration part: scikit-learn's 8x8 digits, which are
the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
Machine Learning Repository, CC BY 4.0).
"""
