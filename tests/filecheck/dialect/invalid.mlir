// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s --split-input-file --verify-diagnostics | filecheck %s

// A verifier says what it expected and what it found.

func.func @threshold_per_tensor(%x: tensor<1x64xi32>) {
  %0 = bnn.threshold %x {thresholds = dense<[1]> : tensor<1xi32>, signs = dense<1> : tensor<64xi8>} : (tensor<1x64xi32>) -> tensor<1x64x!bnn.bipolar>
  func.return
}
// CHECK: expected one threshold per channel (64), got (1,)

// -----

func.func @sign_of_zero(%x: tensor<1x2xi32>) {
  %0 = bnn.threshold %x {thresholds = dense<1> : tensor<2xi32>, signs = dense<[0, 1]> : tensor<2xi8>} : (tensor<1x2xi32>) -> tensor<1x2x!bnn.bipolar>
  func.return
}
// CHECK: expected signs -1 and +1, got [0 1]

// -----

func.func @value_outside_its_domain() {
  %0 = bnn.constant dense<[1, 0, 2]> : tensor<3xi8> : tensor<3x!bnn.bipolar>
  func.return
}
// CHECK: expected values in [-1, 1], got [0, 2]

// -----

func.func @mixed_domains(%x: tensor<1x4x!bnn.bipolar>, %w: tensor<2x4xf32>) {
  %0 = bnn.dense %x, %w : (tensor<1x4x!bnn.bipolar>, tensor<2x4xf32>) -> tensor<1x2xf32>
  func.return
}
// CHECK: expected two numbers, two binary domains, or spikes and f32 or i8, got !bnn.bipolar and f32

// -----

func.func @real_sum_of_bits(%x: tensor<1x4x!bnn.bipolar>, %w: tensor<2x4x!bnn.bipolar>) {
  %0 = bnn.dense %x, %w : (tensor<1x4x!bnn.bipolar>, tensor<2x4x!bnn.bipolar>) -> tensor<1x2xf32>
  func.return
}
// CHECK: expected result i32, got f32

// -----

func.func @convolution_of_the_wrong_size(%x: tensor<1x8x8x4xf32>, %w: tensor<2x3x3x4xf32>) {
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x8x8x4xf32>, tensor<2x3x3x4xf32>) -> tensor<1x8x6x2xf32>
  func.return
}
// CHECK: expected result size 6 in dimension 1, got 8

// -----

func.func @groups_that_do_not_divide(%x: tensor<1x8x8x4xf32>, %w: tensor<2x1x1x3xf32>) {
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x8x8x4xf32>, tensor<2x1x1x3xf32>) -> tensor<1x8x8x2xf32>
  func.return
}
// CHECK: expected 3 channels in each of 1 groups, got 4

// -----

func.func @padding_by_two(%x: tensor<1x8x8x4x!bnn.bipolar>, %w: tensor<2x1x1x4x!bnn.bipolar>) {
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 2 : i64} : (tensor<1x8x8x4x!bnn.bipolar>, tensor<2x1x1x4x!bnn.bipolar>) -> tensor<1x8x8x2xi32>
  func.return
}
// CHECK: expected pad_value -1, 0 or 1, got 2

// -----

func.func @zeros_among_bits(%x: tensor<1x4xf32>) {
  %0 = bnn.binarize %x {zero = 0 : i64} : (tensor<1x4xf32>) -> tensor<1x4x!bnn.bipolar>
  func.return
}
// CHECK: expected result !bnn.ternary, got !bnn.bipolar

// -----

func.func @padding_bits_by_zero(%x: tensor<4x!bnn.bipolar>) {
  %0 = bnn.pad %x {low = array<i64: 1>, high = array<i64: 0>, value = 0.0 : f32} : (tensor<4x!bnn.bipolar>) -> tensor<5x!bnn.bipolar>
  func.return
}
// CHECK: expected a value in [-1, 1], got 0.0

// -----

func.func @no_broadcast(%x: tensor<4xf32>, %y: tensor<3xf32>) {
  %0 = bnn.add %x, %y : (tensor<4xf32>, tensor<3xf32>) -> tensor<4xf32>
  func.return
}
// CHECK: expected shapes that broadcast, got [(4,), (3,)]

// -----

func.func @unknown_comparison(%x: tensor<4xf32>) {
  %0 = bnn.compare %x, %x {kind = "near"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xi1>
  func.return
}
// CHECK: expected a comparison of ('ge', 'gt', 'le', 'lt', 'eq', 'ne'), got near

// -----

func.func @not_a_permutation(%x: tensor<4x2xf32>) {
  %0 = bnn.transpose %x {permutation = array<i64: 0, 0>} : (tensor<4x2xf32>) -> tensor<4x4xf32>
  func.return
}
// CHECK: expected a permutation of 2 dimensions, got (0, 0)

// -----

func.func @values_lost(%x: tensor<4x2xf32>) {
  %0 = bnn.reshape %x : (tensor<4x2xf32>) -> tensor<7xf32>
  func.return
}
// CHECK: expected 8 values, got 7

// -----

func.func @slots_and_operands(%x: tensor<4xf32>) {
  %0 = bnn.onnx %x {operator = "Elu", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<4xf32>) -> tensor<4xf32>
  func.return
}
// CHECK: expected one slot per operand (1), got 2

// -----

func.func @region_that_yields_something_else(%x: tensor<4xf32>) {
  %0 = "bnn.fused"(%x) ({
  ^bb0(%a: tensor<4xf32>):
    bnn.yield %a : tensor<4xf32>
  }) : (tensor<4xf32>) -> tensor<4xi32>
  func.return
}
// CHECK: expected yielded types like the results, got tensor<4xf32>

// -----

func.func @real_image_padded_by_one(%x: tensor<1x4x4x4xf32>, %w: tensor<2x1x1x4xf32>) {
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 1 : i64} : (tensor<1x4x4x4xf32>, tensor<2x1x1x4xf32>) -> tensor<1x4x4x2xf32>
  func.return
}
// CHECK: expected pad_value 0 for f32, got 1

// -----

func.func @threshold_of_another_shape(%x: tensor<1x2xi32>) {
  %0 = bnn.threshold %x {thresholds = dense<1> : tensor<2xi32>, signs = dense<1> : tensor<2xi8>} : (tensor<1x2xi32>) -> tensor<2x2x!bnn.bipolar>
  func.return
}
// CHECK: expected equal shapes, got (2, 2)

// -----

func.func @maximum_of_spikes(%x: tensor<1x2x2x4x!bnn.spike>) {
  %0 = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x4x!bnn.spike>) -> tensor<1x1x1x4x!bnn.spike>
  func.return
}
// CHECK: expected f32, i32, bipolar values or bytes, got !bnn.spike

// -----

func.func @reshape_that_converts(%x: tensor<4xf32>) {
  %0 = bnn.reshape %x : (tensor<4xf32>) -> tensor<2x2xi32>
  func.return
}
// CHECK: expected result element f32, got i32

// -----

func.func @concatenation_of_other_rows(%x: tensor<1x4xf32>, %y: tensor<2x4xf32>) {
  %0 = bnn.concat %x, %y {axis = 1 : i64} : (tensor<1x4xf32>, tensor<2x4xf32>) -> tensor<1x8xf32>
  func.return
}
// CHECK: expected (1, 4) or another extent in dimension 1, got (2, 4)

// -----

func.func @levels_of_nine_bits(%x: tensor<1x4x!bnn.level<0, 256>>) {
  func.return
}
// CHECK: expected 2 to 256 levels, got 0 .. 256

// -----

func.func @levels_without_end(%x: tensor<1x4x!bnn.level<250, 260>>) {
  func.return
}
// CHECK: expected levels of 8 bits, got 250 .. 260

// -----

func.func @value_beyond_its_levels() {
  %0 = bnn.constant dense<[-2, 1, 2]> : tensor<3xi8> : tensor<3x!bnn.level<-2, 1>>
  func.return
}
// CHECK: expected values in [-2, -1, 0, 1], got [2]

// -----

func.func @levels_padded_by_a_sign(%x: tensor<1x4x4x8x!bnn.level<0, 3>>, %w: tensor<8x3x3x8x!bnn.bipolar>) {
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 1 : i64} : (tensor<1x4x4x8x!bnn.level<0, 3>>, tensor<8x3x3x8x!bnn.bipolar>) -> tensor<1x4x4x8xi32>
  func.return
}
// CHECK: expected pad_value 0 for !bnn.level<0, 3>, got 1

// -----

func.func @maximum_of_levels(%x: tensor<1x2x2x4x!bnn.level<0, 3>>) {
  %0 = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x2x2x4x!bnn.level<0, 3>>) -> tensor<1x1x1x4x!bnn.level<0, 3>>
  func.return
}
// CHECK: expected f32, i32, bipolar values or bytes, got !bnn.level<0, 3>

// -----

func.func @no_channels(%x: tensor<!bnn.bipolar>) {
  %0 = bnn.flip %x {signs = dense<1> : tensor<1xi8>} : (tensor<!bnn.bipolar>) -> tensor<!bnn.bipolar>
  func.return
}
// CHECK: expected a dimension of channels, got tensor<!bnn.bipolar>

// -----

func.func @any_batch(%x: tensor<?x4xf32>) {
  %0 = bnn.relu %x : (tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return
}
// CHECK: expected static shapes, got tensor<?x4xf32>

// -----

func.func @no_such_numbers(%x: tensor<4xbf16>) {
  %0 = bnn.relu %x : (tensor<4xbf16>) -> tensor<4xbf16>
  func.return
}
// CHECK: expected a domain or usual numbers, got tensor<4xbf16>

// -----

func.func @stride_of_zero(%x: tensor<1x4x4x4xf32>) {
  %0 = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 0, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x4x4x4xf32>) -> tensor<1x2x2x4xf32>
  func.return
}
// CHECK: expected strides, dilations and kernel sizes above 0, got ((0, 2), (1, 1), (2, 2))

// -----

func.func @image_of_three_dimensions(%x: tensor<4x4x4xf32>, %w: tensor<2x1x1x4xf32>) {
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<4x4x4xf32>, tensor<2x1x1x4xf32>) -> tensor<4x4x2xf32>
  func.return
}
// CHECK: expected rank 4, got 3 and 3

// -----

func.func @one_image_of_two(%x: tensor<2x4x4x4xf32>) {
  %0 = bnn.mean_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<2x4x4x4xf32>) -> tensor<1x2x2x4xf32>
  func.return
}
// CHECK: expected 2 images, got 1

// -----

func.func @integers_for_numbers() {
  %0 = bnn.constant dense<[1, 2]> : tensor<2xi32> : tensor<2xf32>
  func.return
}
// CHECK: expected values of f32, got i32
