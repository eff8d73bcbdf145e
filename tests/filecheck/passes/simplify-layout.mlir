// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p simplify-layout | filecheck %s

// A residual block: the transposes meet, one at the input and one at the output are left.
// CHECK-LABEL: func.func @residual
func.func @residual(%x: tensor<1x4x8x8xf32>, %w: tensor<4x1x1x4xf32>) -> tensor<1x4x8x8xf32> {
  %c = bnn.constant dense<[[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]]> : tensor<1x4x1x1xf32> : tensor<1x4x1x1xf32>
  %0 = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>} : (tensor<1x4x8x8xf32>) -> tensor<1x8x8x4xf32>
  %1 = bnn.conv2d %0, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x8x8x4xf32>, tensor<4x1x1x4xf32>) -> tensor<1x8x8x4xf32>
  %2 = bnn.transpose %1 {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x8x8x4xf32>) -> tensor<1x4x8x8xf32>
  %3 = bnn.add %2, %c : (tensor<1x4x8x8xf32>, tensor<1x4x1x1xf32>) -> tensor<1x4x8x8xf32>
  %4 = bnn.add %3, %x : (tensor<1x4x8x8xf32>, tensor<1x4x8x8xf32>) -> tensor<1x4x8x8xf32>
  %5 = bnn.transpose %4 {permutation = array<i64: 0, 2, 3, 1>} : (tensor<1x4x8x8xf32>) -> tensor<1x8x8x4xf32>
  %6 = bnn.conv2d %5, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x8x8x4xf32>, tensor<4x1x1x4xf32>) -> tensor<1x8x8x4xf32>
  %7 = bnn.transpose %6 {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x8x8x4xf32>) -> tensor<1x4x8x8xf32>
  // CHECK-NEXT: %[[X:.+]] = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>}
  // CHECK-NEXT: bnn.conv2d %[[X]]
  // CHECK-NEXT: bnn.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00, 4.000000e+00]> : tensor<4xf32>
  // CHECK-NEXT: bnn.add
  // CHECK-NEXT: %[[AGAIN:.+]] = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>}
  // CHECK-NEXT: bnn.add %{{.+}}, %[[AGAIN]]
  // CHECK-NEXT: %[[Y:.+]] = bnn.conv2d
  // CHECK-NEXT: bnn.transpose %[[Y]] {permutation = array<i64: 0, 3, 1, 2>}
  // CHECK-NEXT: func.return
  func.return %7 : tensor<1x4x8x8xf32>
}

// What is in front of a turned value turns too; whoever reads it otherwise turns it back.
// CHECK-LABEL: func.func @rises
func.func @rises(%x: tensor<1x4x8x8xf32>) -> (tensor<1x8x8x4xf32>, tensor<1x4x8x8xf32>) {
  %0 = bnn.relu %x : (tensor<1x4x8x8xf32>) -> tensor<1x4x8x8xf32>
  %1 = bnn.transpose %0 {permutation = array<i64: 0, 2, 3, 1>} : (tensor<1x4x8x8xf32>) -> tensor<1x8x8x4xf32>
  // CHECK-NEXT: %[[X:.+]] = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>}
  // CHECK-NEXT: %[[R:.+]] = bnn.relu %[[X]]
  // CHECK-NEXT: %[[BACK:.+]] = bnn.transpose %[[R]] {permutation = array<i64: 0, 3, 1, 2>}
  // CHECK-NEXT: func.return %[[R]], %[[BACK]]
  func.return %1, %0 : tensor<1x8x8x4xf32>, tensor<1x4x8x8xf32>
}

// Pads and concatenations are turned as well.
// CHECK-LABEL: func.func @pad_and_concat
func.func @pad_and_concat(%x: tensor<1x8x8x4xf32>, %y: tensor<1x8x8x2xf32>) -> tensor<1x6x10x10xf32> {
  %0 = bnn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x8x8x4xf32>) -> tensor<1x4x8x8xf32>
  %1 = bnn.transpose %y {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x8x8x2xf32>) -> tensor<1x2x8x8xf32>
  %2 = bnn.concat %0, %1 {axis = 1 : i64} : (tensor<1x4x8x8xf32>, tensor<1x2x8x8xf32>) -> tensor<1x6x8x8xf32>
  %3 = bnn.pad %2 {low = array<i64: 0, 0, 1, 2>, high = array<i64: 0, 0, 1, 0>, value = 1.0 : f32} : (tensor<1x6x8x8xf32>) -> tensor<1x6x10x10xf32>
  // CHECK-NEXT: %[[C:.+]] = bnn.concat %x, %y {axis = 3 : i64}
  // CHECK-NEXT: %[[P:.+]] = bnn.pad %[[C]] {low = array<i64: 0, 1, 2, 0>, high = array<i64: 0, 1, 0, 0>
  // CHECK-NEXT: bnn.transpose %[[P]]
  func.return %3 : tensor<1x6x10x10xf32>
}

// A transpose that moves only sizes of 1 is a reshape, and reshapes merge.
// CHECK-LABEL: func.func @reshapes
func.func @reshapes(%x: tensor<1x1x1x8xf32>) -> tensor<1x8xf32> {
  %0 = bnn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x1x1x8xf32>) -> tensor<1x8x1x1xf32>
  %1 = bnn.reshape %0 : (tensor<1x8x1x1xf32>) -> tensor<1x8xf32>
  // CHECK-NEXT: bnn.reshape %x : (tensor<1x1x1x8xf32>) -> tensor<1x8xf32>
  // CHECK-NEXT: func.return
  func.return %1 : tensor<1x8xf32>
}

// A dense over a flattened [n, c, h, w] is a convolution; the weight and what lies between are reordered.
// CHECK-LABEL: func.func @dense_over_image
func.func @dense_over_image(%x: tensor<1x1x2x2xf32>) -> tensor<1x1xf32> {
  %w = bnn.constant dense<[[1.0, 2.0, 3.0, 4.0]]> : tensor<1x4xf32> : tensor<1x4xf32>
  %c = bnn.constant dense<[5.0, 6.0, 7.0, 8.0]> : tensor<4xf32> : tensor<4xf32>
  %p = bnn.max_pool %x {kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x1x2x2xf32>) -> tensor<1x1x2x2xf32>
  %0 = bnn.transpose %p {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x1x2x2xf32>) -> tensor<1x2x1x2xf32>
  %1 = bnn.reshape %0 : (tensor<1x2x1x2xf32>) -> tensor<1x4xf32>
  %2 = bnn.add %1, %c : (tensor<1x4xf32>, tensor<4xf32>) -> tensor<1x4xf32>
  %3 = bnn.dense %2, %w : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x1xf32>
  // CHECK: bnn.constant dense<{{\[\[}}5.000000e+00, 7.000000e+00], [6.000000e+00, 8.000000e+00]]> : tensor<2x2xf32>
  // CHECK-NEXT: bnn.add
  // CHECK-NEXT: bnn.constant dense<{{\[\[\[\[}}1.000000e+00, 3.000000e+00], [2.000000e+00, 4.000000e+00]]]]> : tensor<1x1x2x2xf32>
  // CHECK-NEXT: bnn.conv2d {{.+}} -> tensor<1x1x1x1xf32>
  // CHECK-NEXT: bnn.reshape
  func.return %3 : tensor<1x1xf32>
}

// CHECK-LABEL: func.func @zero_pads_merge
func.func @zero_pads_merge(%x: tensor<1x4x4x1xf32>, %w: tensor<1x3x3x1xf32>) -> tensor<1x5x5x1xf32> {
  %0 = bnn.pad %x {low = array<i64: 0, 1, 0, 0>, high = array<i64: 0, 0, 1, 0>, value = 0.0 : f32} : (tensor<1x4x4x1xf32>) -> tensor<1x5x5x1xf32>
  %1 = bnn.conv2d %0, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x5x5x1xf32>, tensor<1x3x3x1xf32>) -> tensor<1x5x5x1xf32>
  // CHECK-NEXT: bnn.conv2d %x, %w {{.+}} pads = array<i64: 2, 1, 1, 2>
  func.return %1 : tensor<1x5x5x1xf32>
}

// Near misses: a real image is not padded by ones; what is flattened is the input itself; softmax does not
// commute with a transpose.
// CHECK-LABEL: func.func @near_misses
func.func @near_misses(%x: tensor<1x4x4x1xf32>, %w: tensor<1x3x3x1xf32>) -> (tensor<1x4x4x1xf32>, tensor<1x2xf32>, tensor<4x1x4x1xf32>) {
  %0 = bnn.pad %x {low = array<i64: 0, 1, 1, 0>, high = array<i64: 0, 1, 1, 0>, value = 1.0 : f32} : (tensor<1x4x4x1xf32>) -> tensor<1x6x6x1xf32>
  %1 = bnn.conv2d %0, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x6x6x1xf32>, tensor<1x3x3x1xf32>) -> tensor<1x4x4x1xf32>
  // CHECK-NEXT: bnn.pad
  // CHECK-NEXT: bnn.conv2d
  %d = bnn.constant dense<1.0> : tensor<2x16xf32> : tensor<2x16xf32>
  %2 = bnn.reshape %x : (tensor<1x4x4x1xf32>) -> tensor<1x16xf32>
  %3 = bnn.dense %2, %d : (tensor<1x16xf32>, tensor<2x16xf32>) -> tensor<1x2xf32>
  // CHECK: bnn.reshape
  // CHECK-NEXT: bnn.dense
  %4 = bnn.transpose %x {permutation = array<i64: 1, 0, 2, 3>} : (tensor<1x4x4x1xf32>) -> tensor<4x1x4x1xf32>
  %5 = bnn.softmax %4 : (tensor<4x1x4x1xf32>) -> tensor<4x1x4x1xf32>
  // CHECK-NEXT: bnn.reshape
  // CHECK-NEXT: bnn.softmax
  func.return %1, %3, %5 : tensor<1x4x4x1xf32>, tensor<1x2xf32>, tensor<4x1x4x1xf32>
}

// Images of one pixel: the transposes that are reshapes go through a concatenation, too.
// CHECK-LABEL: func.func @joined_pixels
func.func @joined_pixels(%x: tensor<2x1x1x4xf32>, %y: tensor<2x1x1x3xf32>) -> tensor<2x7x1x1xf32> {
  %a = bnn.relu %x : (tensor<2x1x1x4xf32>) -> tensor<2x1x1x4xf32>
  %b = bnn.relu %y : (tensor<2x1x1x3xf32>) -> tensor<2x1x1x3xf32>
  %0 = bnn.reshape %a : (tensor<2x1x1x4xf32>) -> tensor<2x4x1x1xf32>
  %1 = bnn.reshape %b : (tensor<2x1x1x3xf32>) -> tensor<2x3x1x1xf32>
  %2 = bnn.concat %0, %1 {axis = 1 : i64} : (tensor<2x4x1x1xf32>, tensor<2x3x1x1xf32>) -> tensor<2x7x1x1xf32>
  // CHECK: %[[C:.+]] = bnn.concat %{{.+}}, %{{.+}} {axis = 3 : i64}
  // CHECK-NEXT: bnn.reshape %[[C]] : (tensor<2x1x1x7xf32>) -> tensor<2x7x1x1xf32>
  func.return %2 : tensor<2x7x1x1xf32>
}

// Near miss: values of the second dimension lie behind the joined one after the reshape only.
// CHECK-LABEL: func.func @other_rows
func.func @other_rows(%x: tensor<4x2xf32>) -> tensor<2x8xf32> {
  %a = bnn.relu %x : (tensor<4x2xf32>) -> tensor<4x2xf32>
  %0 = bnn.reshape %a : (tensor<4x2xf32>) -> tensor<2x4xf32>
  %2 = bnn.concat %0, %0 {axis = 1 : i64} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x8xf32>
  // CHECK: bnn.reshape
  // CHECK-NEXT: bnn.concat
  func.return %2 : tensor<2x8xf32>
}

// A constant image that is joined to another keeps all of its values, although they are equal.
// CHECK-LABEL: func.func @zeros_behind
func.func @zeros_behind(%x: tensor<1x8x8x4xf32>) -> tensor<1x8x8x6xf32> {
  %z = bnn.constant dense<0.0> : tensor<1x2x8x8xf32> : tensor<1x2x8x8xf32>
  %0 = bnn.transpose %x {permutation = array<i64: 0, 3, 1, 2>} : (tensor<1x8x8x4xf32>) -> tensor<1x4x8x8xf32>
  %1 = bnn.concat %0, %z {axis = 1 : i64} : (tensor<1x4x8x8xf32>, tensor<1x2x8x8xf32>) -> tensor<1x6x8x8xf32>
  %2 = bnn.transpose %1 {permutation = array<i64: 0, 2, 3, 1>} : (tensor<1x6x8x8xf32>) -> tensor<1x8x8x6xf32>
  // CHECK-NEXT: %[[Z:.+]] = bnn.constant dense<0.000000e+00> : tensor<1x8x8x2xf32>
  // CHECK-NEXT: bnn.concat %x, %[[Z]] {axis = 3 : i64}
  // CHECK-NEXT: func.return
  func.return %2 : tensor<1x8x8x6xf32>
}

// A loop over steps that are turned works on them as they were; constants of one number are numbers.
// CHECK-LABEL: func.func @turned_steps
// CHECK: "bnn.scan"(%x, %{{.+}})
// CHECK-NEXT: ^bb0(%{{.+}}: tensor<2x3x3xf32>, %{{.+}}: tensor<2x3x3xf32>):
// CHECK-NEXT: bnn.constant dense<1.000000e+00> : tensor<f32>
func.func @turned_steps(%x: tensor<4x2x3x3xf32>) -> tensor<4x3x3x2xf32> {
  %zero = bnn.constant dense<0.0> : tensor<3x3x2xf32> : tensor<3x3x2xf32>
  %t = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>} : (tensor<4x2x3x3xf32>) -> tensor<4x3x3x2xf32>
  %last, %all = "bnn.scan"(%t, %zero) <{trips = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<3x3x2xf32>, %v: tensor<3x3x2xf32>):
    %one = bnn.constant dense<1.0> : tensor<1x1x1xf32> : tensor<1x1x1xf32>
    %m = bnn.mul %s, %one : (tensor<3x3x2xf32>, tensor<1x1x1xf32>) -> tensor<3x3x2xf32>
    %n = bnn.add %v, %m : (tensor<3x3x2xf32>, tensor<3x3x2xf32>) -> tensor<3x3x2xf32>
    bnn.yield %n, %n : tensor<3x3x2xf32>, tensor<3x3x2xf32>
  }) : (tensor<4x3x3x2xf32>, tensor<3x3x2xf32>) -> (tensor<3x3x2xf32>, tensor<4x3x3x2xf32>)
  func.return %all : tensor<4x3x3x2xf32>
}

// Not where a state becomes a constant.
// CHECK-LABEL: func.func @forgetful_steps
// CHECK: ^bb0(%{{.+}}: tensor<3x3x2xf32>, %{{.+}}: tensor<3x3x2xf32>):
func.func @forgetful_steps(%x: tensor<4x2x3x3xf32>) -> tensor<4x3x3x2xf32> {
  %zero = bnn.constant dense<0.0> : tensor<3x3x2xf32> : tensor<3x3x2xf32>
  %t = bnn.transpose %x {permutation = array<i64: 0, 2, 3, 1>} : (tensor<4x2x3x3xf32>) -> tensor<4x3x3x2xf32>
  %last, %all = "bnn.scan"(%t, %zero) <{trips = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%s: tensor<3x3x2xf32>, %v: tensor<3x3x2xf32>):
    %two = bnn.constant dense<2.0> : tensor<3x3x2xf32> : tensor<3x3x2xf32>
    %n = bnn.add %v, %s : (tensor<3x3x2xf32>, tensor<3x3x2xf32>) -> tensor<3x3x2xf32>
    bnn.yield %two, %n : tensor<3x3x2xf32>, tensor<3x3x2xf32>
  }) : (tensor<4x3x3x2xf32>, tensor<3x3x2xf32>) -> (tensor<3x3x2xf32>, tensor<4x3x3x2xf32>)
  func.return %all : tensor<4x3x3x2xf32>
}
