// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// A reduction over the window; outside the image is what no maximum is below.
// CHECK-LABEL: func.func @max_pool
// CHECK: arith.constant 0xff800000 : f32
// CHECK: linalg.generic
// CHECK-SAME: affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, ((d1 * 2) + d4), ((d2 * 2) + d5), d3)>
// CHECK: arith.maximumf
func.func @max_pool(%x: tensor<1x8x8x4xf32>) -> tensor<1x4x4x4xf32> {
  %0 = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x8x8x4xf32>) -> tensor<1x4x4x4xf32>
  func.return %0 : tensor<1x4x4x4xf32>
}

// The maximum of signs is an or of words.
// CHECK-LABEL: func.func @max_pool_of_bits(%{{.+}}: tensor<1x8x8x2xi32>) -> tensor<1x4x4x2xi32>
// CHECK: arith.ori
func.func @max_pool_of_bits(%x: tensor<1x8x8x40x!bnn.bipolar>) -> tensor<1x4x4x40x!bnn.bipolar> {
  %0 = bnn.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>} : (tensor<1x8x8x40x!bnn.bipolar>) -> tensor<1x4x4x40x!bnn.bipolar>
  func.return %0 : tensor<1x4x4x40x!bnn.bipolar>
}

// The sum over the window, divided by how many taps count there: with those outside, 9 everywhere.
// CHECK-LABEL: func.func @mean_pool
// CHECK: arith.addf
// CHECK: arith.constant dense<9.000000e+00> : tensor<1x1x1xf32>
// CHECK: arith.divf
// CHECK-LABEL: func.func @mean_pool_inside
// CHECK: arith.constant dense<[{{.*}}4.000000e+00{{.*}}6.000000e+00{{.*}}9.000000e+00{{.*}}]> : tensor<3x3x1xf32>
func.func @mean_pool(%x: tensor<1x3x3x4xf32>) -> tensor<1x3x3x4xf32> {
  %0 = bnn.mean_pool %x {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, count_outside = 1 : i64} : (tensor<1x3x3x4xf32>) -> tensor<1x3x3x4xf32>
  func.return %0 : tensor<1x3x3x4xf32>
}
func.func @mean_pool_inside(%x: tensor<1x3x3x4xf32>) -> tensor<1x3x3x4xf32> {
  %0 = bnn.mean_pool %x {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, count_outside = 0 : i64} : (tensor<1x3x3x4xf32>) -> tensor<1x3x3x4xf32>
  func.return %0 : tensor<1x3x3x4xf32>
}

// Counts of spikes up to 4 are three planes.
// CHECK-LABEL: func.func @count_pool(%{{.+}}: tensor<1x4x4x1xi32>) -> (tensor<1x2x2x1xi32>, tensor<1x2x2x1xi32>, tensor<1x2x2x1xi32>)
// CHECK: arith.addi
// CHECK-COUNT-3: library_call = "pack_bits"
func.func @count_pool(%x: tensor<1x4x4x20x!bnn.spike>) -> tensor<1x2x2x20x!bnn.level<0, 4>> {
  %0 = bnn.count_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>} : (tensor<1x4x4x20x!bnn.spike>) -> tensor<1x2x2x20x!bnn.level<0, 4>>
  func.return %0 : tensor<1x2x2x20x!bnn.level<0, 4>>
}

// CHECK-LABEL: func.func @channel_mean
// CHECK: iterator_types = ["parallel", "parallel", "parallel", "reduction"]
// CHECK: arith.addf
// CHECK: arith.divf
func.func @channel_mean(%x: tensor<1x8x8x4xf32>) -> tensor<1x8x8x1xf32> {
  %0 = bnn.channel_mean %x : (tensor<1x8x8x4xf32>) -> tensor<1x8x8x1xf32>
  func.return %0 : tensor<1x8x8x1xf32>
}

// exp(x - max) over the sum of these.
// CHECK-LABEL: func.func @softmax
// CHECK: arith.maximumf
// CHECK: arith.subf
// CHECK-NEXT: math.exp
// CHECK: arith.addf
// CHECK: arith.divf
func.func @softmax(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.softmax %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}
