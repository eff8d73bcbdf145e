// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p crop-unread --split-input-file | filecheck %s

// The pool reads 4 of 5 rows: neurons, convolution and input lose what makes the fifth.

// CHECK: func.func @main
// CHECK: bnn.pad %x {low = array<i64: 0, 0, 0, 0>, high = array<i64: 0, -1, -1, 0>{{.*}}} : (tensor<3x6x6x1xf32>) -> tensor<3x5x5x1xf32>
// CHECK: bnn.conv2d %{{.+}} -> tensor<3x4x4x1xf32>
// CHECK: dense<0.000000e+00> : tensor<4x4x1xf32>
// CHECK: "bnn.scan"
// CHECK: tensor<3x4x4x1xf32>) -> tensor<3x2x2x1xf32>
func.func @main(%x: tensor<3x6x6x1xf32>) -> (tensor<3x2x2x1xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %w = bnn.constant dense<1.0> : tensor<1x2x2x1xf32> : tensor<1x2x2x1xf32>
  %zero = bnn.constant dense<0.0> : tensor<5x5x1xf32> : tensor<5x5x1xf32>
  %c = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<3x6x6x1xf32>, tensor<1x2x2x1xf32>) -> tensor<3x5x5x1xf32>
  %last, %all = "bnn.scan"(%c, %zero) <{trips = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<5x5x1xf32>, %v: tensor<5x5x1xf32>):
    %n = bnn.add %v, %s : (tensor<5x5x1xf32>, tensor<5x5x1xf32>) -> tensor<5x5x1xf32>
    bnn.yield %n, %n : tensor<5x5x1xf32>, tensor<5x5x1xf32>
  }) : (tensor<3x5x5x1xf32>, tensor<5x5x1xf32>) -> (tensor<5x5x1xf32>, tensor<3x5x5x1xf32>)
  %y = bnn.max_pool %all {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<3x5x5x1xf32>) -> tensor<3x2x2x1xf32>
  func.return %y : tensor<3x2x2x1xf32>
}

// -----

// The states after the last step are an output: all of them are computed, and only the pool reads less.

// CHECK: func.func @main
// CHECK: "bnn.scan"(%x, %{{.+}}) <{trips = 3
// CHECK-NEXT: ^bb0(%{{.+}}: tensor<5x5x1xf32>
// CHECK: bnn.pad %{{.+}} -> tensor<3x4x4x1xf32>
func.func @main(%x: tensor<3x5x5x1xf32>) -> (tensor<5x5x1xf32>, tensor<3x2x2x1xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["v", "y"]} {
  %zero = bnn.constant dense<0.0> : tensor<5x5x1xf32> : tensor<5x5x1xf32>
  %last, %all = "bnn.scan"(%x, %zero) <{trips = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<5x5x1xf32>, %v: tensor<5x5x1xf32>):
    %n = bnn.add %v, %s : (tensor<5x5x1xf32>, tensor<5x5x1xf32>) -> tensor<5x5x1xf32>
    bnn.yield %n, %n : tensor<5x5x1xf32>, tensor<5x5x1xf32>
  }) : (tensor<3x5x5x1xf32>, tensor<5x5x1xf32>) -> (tensor<5x5x1xf32>, tensor<3x5x5x1xf32>)
  %y = bnn.max_pool %all {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<3x5x5x1xf32>) -> tensor<3x2x2x1xf32>
  func.return %last, %y : tensor<5x5x1xf32>, tensor<3x2x2x1xf32>
}

// -----

// No recurrence: the shapes are those of the graph.

// CHECK: func.func @main
// CHECK-NOT: bnn.pad
func.func @main(%x: tensor<3x5x5x1xf32>) -> (tensor<3x2x2x1xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %y = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<3x5x5x1xf32>) -> tensor<3x2x2x1xf32>
  func.return %y : tensor<3x2x2x1xf32>
}

// -----

// One pool reads 4 columns of what is collected, another all 5: 4 rows and 5 columns are computed.

// CHECK: func.func @main
// CHECK: bnn.pad %x {low = array<i64: 0, 0, 0, 0>, high = array<i64: 0, -1, 0, 0>{{.*}}} : (tensor<3x5x5x1xf32>) -> tensor<3x4x5x1xf32>
// CHECK: "bnn.scan"
// CHECK: -> (tensor<4x5x1xf32>, tensor<3x4x5x1xf32>, tensor<3x4x5x1xf32>)
func.func @main(%x: tensor<3x5x5x1xf32>) -> (tensor<3x2x2x1xf32>, tensor<3x2x1x1xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y", "z"]} {
  %zero = bnn.constant dense<0.0> : tensor<5x5x1xf32> : tensor<5x5x1xf32>
  %last, %all, %again = "bnn.scan"(%x, %zero) <{trips = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 2>}> ({
  ^bb0(%s: tensor<5x5x1xf32>, %v: tensor<5x5x1xf32>):
    %n = bnn.add %v, %s : (tensor<5x5x1xf32>, tensor<5x5x1xf32>) -> tensor<5x5x1xf32>
    %m = bnn.add %n, %s : (tensor<5x5x1xf32>, tensor<5x5x1xf32>) -> tensor<5x5x1xf32>
    bnn.yield %n, %n, %m : tensor<5x5x1xf32>, tensor<5x5x1xf32>, tensor<5x5x1xf32>
  }) : (tensor<3x5x5x1xf32>, tensor<5x5x1xf32>) -> (tensor<5x5x1xf32>, tensor<3x5x5x1xf32>, tensor<3x5x5x1xf32>)
  %y = bnn.max_pool %all {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<3x5x5x1xf32>) -> tensor<3x2x2x1xf32>
  %z = bnn.max_pool %again {kernel = array<i64: 2, 5>, strides = array<i64: 2, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<3x5x5x1xf32>) -> tensor<3x2x1x1xf32>
  func.return %y, %z : tensor<3x2x2x1xf32>, tensor<3x2x1x1xf32>
}

// -----

// A mean over the image, which is added to each of its pixels, has one row: what is read of it is that.

// CHECK: func.func @main
// CHECK: bnn.mean_pool %x {kernel = array<i64: 5, 5>{{.*}}pads = array<i64: 0, 0, 0, 0>{{.*}}} : (tensor<3x5x5x1xf32>) -> tensor<3x1x1x1xf32>
// CHECK: tensor<3x4x4x1xf32>) -> tensor<3x2x2x1xf32>
func.func @main(%x: tensor<3x5x5x1xf32>) -> (tensor<3x2x2x1xf32>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y"]} {
  %zero = bnn.constant dense<0.0> : tensor<5x5x1xf32> : tensor<5x5x1xf32>
  %m = bnn.mean_pool %x {kernel = array<i64: 5, 5>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, count_outside = 0 : i64} : (tensor<3x5x5x1xf32>) -> tensor<3x1x1x1xf32>
  %c = bnn.add %x, %m : (tensor<3x5x5x1xf32>, tensor<3x1x1x1xf32>) -> tensor<3x5x5x1xf32>
  %last, %all = "bnn.scan"(%c, %zero) <{trips = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<5x5x1xf32>, %v: tensor<5x5x1xf32>):
    %n = bnn.add %v, %s : (tensor<5x5x1xf32>, tensor<5x5x1xf32>) -> tensor<5x5x1xf32>
    bnn.yield %n, %n : tensor<5x5x1xf32>, tensor<5x5x1xf32>
  }) : (tensor<3x5x5x1xf32>, tensor<5x5x1xf32>) -> (tensor<5x5x1xf32>, tensor<3x5x5x1xf32>)
  %y = bnn.max_pool %all {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<3x5x5x1xf32>) -> tensor<3x2x2x1xf32>
  func.return %y : tensor<3x2x2x1xf32>
}
