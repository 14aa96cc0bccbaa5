"""Networks of several tests of placement, as golden texts have them (golden.py)."""

# Two residual dense blocks as ESRGAN has them: convs of 4 channels, whose output a Concat joins to what they read.
DENSE_BLOCKS = """
x: 1x3x32x32
stem = Conv(x, 16x3x3x3) pads=1,1,1,1
first = Conv(stem, 16x16x3x3) pads=1,1,1,1
grown1 = Conv(first, 4x16x3x3) pads=1,1,1,1
act1 = Relu(grown1)
dense1 = Concat(first, act1) axis=1
joined1 = Conv(dense1, 16x20x1x1)
sum1 = Add(joined1, first)
grown2 = Conv(sum1, 4x16x3x3) pads=1,1,1,1
act2 = Relu(grown2)
dense2 = Concat(sum1, act2) axis=1
joined2 = Conv(dense2, 16x20x1x1)
sum2 = Add(joined2, sum1)
up = Conv(sum2, 16x16x3x3) pads=1,1,1,1
image = Conv(up, 3x16x3x3) pads=1,1,1,1
-> image
"""
