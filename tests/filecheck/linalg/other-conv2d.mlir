// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s
// RUN: bnncc-opt %s -p 'convert-bnn-to-linalg{form=im2col}' | filecheck %s --check-prefix IM2COL

// Ternary activations are a sign and a mask: two inputs. 20 channels end before their word does: the weights' mask
// says where.
// CHECK-LABEL: func.func @ternary(%{{.+}}: tensor<1x4x4x1xi32>, %{{.+}}: tensor<1x4x4x1xi32>)
// CHECK: library_call = "ternary_conv2d_masked"
// CHECK-SAME: : tensor<1x6x6x1xi32>, tensor<1x6x6x1xi32>, tensor<3x3x1x4xi32>, tensor<3x3x1x4xi32>)
// CHECK: %[[BOTH:.+]] = arith.andi
// CHECK-NEXT: %[[OTHER:.+]] = arith.xori
// CHECK-NEXT: arith.andi %[[OTHER]], %[[BOTH]]
// CHECK: math.ctpop %[[BOTH]]
// IM2COL-LABEL: func.func @ternary
// IM2COL: library_call = "ternary_conv2d_masked"
// IM2COL-SAME: : tensor<16x9xi32>, tensor<16x9xi32>, tensor<4x9xi32>, tensor<4x9xi32>)
func.func @ternary(%x: tensor<1x4x4x20x!bnn.ternary>) -> tensor<1x4x4x4xi32> {
  %w = bnn.constant dense<-1> : tensor<4x3x3x20xi8> : tensor<4x3x3x20x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x20x!bnn.ternary>, tensor<4x3x3x20x!bnn.bipolar>) -> tensor<1x4x4x4xi32>
  func.return %0 : tensor<1x4x4x4xi32>
}

// Spikes by signs: zero padding is what bits of 0 are, so there is no table of cases.
// CHECK-LABEL: func.func @spikes
// CHECK-NOT: tensor.extract %
// CHECK: library_call = "binary_conv2d"
// CHECK: math.ctpop
// IM2COL-LABEL: func.func @spikes
// IM2COL: library_call = "binary_conv2d"
func.func @spikes(%x: tensor<1x4x4x20x!bnn.spike>) -> tensor<1x4x4x4xi32> {
  %w = bnn.constant dense<-1> : tensor<4x3x3x20xi8> : tensor<4x3x3x20x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x20x!bnn.spike>, tensor<4x3x3x20x!bnn.bipolar>) -> tensor<1x4x4x4xi32>
  func.return %0 : tensor<1x4x4x4xi32>
}

// Two planes of bits for 0 to 3: two contractions, the sums of the second one doubled.
// CHECK-LABEL: func.func @planes(%{{.+}}: tensor<1x4x4x1xi32>, %{{.+}}: tensor<1x4x4x1xi32>)
// CHECK-COUNT-2: library_call = "binary_conv2d"
// CHECK-NOT: library_call
// IM2COL-LABEL: func.func @planes
// IM2COL-COUNT-2: library_call = "binary_conv2d"
func.func @planes(%x: tensor<1x4x4x20x!bnn.level<0, 3>>) -> tensor<1x2x2x4xi32> {
  %w = bnn.constant dense<-1> : tensor<4x3x3x20xi8> : tensor<4x3x3x20x!bnn.bipolar>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x20x!bnn.level<0, 3>>, tensor<4x3x3x20x!bnn.bipolar>) -> tensor<1x2x2x4xi32>
  func.return %0 : tensor<1x2x2x4xi32>
}

// Real numbers: no word is packed, and the padding is 0.
// CHECK-LABEL: func.func @real
// CHECK: linalg.fill ins(%{{.+}} : f32) outs(%{{.+}} : tensor<1x6x6x3xf32>)
// CHECK: linalg.generic
// CHECK-SAME: library_call = "real_conv2d"
// CHECK-SAME: ins(%{{.+}}, %{{.+}} : tensor<1x6x6x3xf32>, tensor<3x3x3x8xf32>)
// CHECK: arith.mulf
// CHECK-NEXT: arith.addf
// IM2COL-LABEL: func.func @real
// IM2COL: library_call = "real_conv2d"
// IM2COL-SAME: ins(%{{.+}}, %{{.+}} : tensor<16x27xf32>, tensor<8x27xf32>)
func.func @real(%x: tensor<1x4x4x3xf32>) -> tensor<1x4x4x8xf32> {
  %w = bnn.constant dense<0.5> : tensor<8x3x3x3xf32> : tensor<8x3x3x3xf32>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x3xf32>, tensor<8x3x3x3xf32>) -> tensor<1x4x4x8xf32>
  func.return %0 : tensor<1x4x4x8xf32>
}

// int8 weights over spikes: sums in float32, which holds them exactly, become integers.
// CHECK-LABEL: func.func @int8
// CHECK: arith.select {{.+}} : f32
// CHECK: library_call = "real_conv2d"
// CHECK: arith.fptosi
func.func @int8(%x: tensor<1x4x4x9x!bnn.spike>) -> tensor<1x3x3x4xi32> {
  %w = bnn.constant dense<-7> : tensor<4x2x2x9xi8> : tensor<4x2x2x9xi8>
  %0 = bnn.conv2d %x, %w {strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1 : i64, pad_value = 0 : i64} : (tensor<1x4x4x9x!bnn.spike>, tensor<4x2x2x9xi8>) -> tensor<1x3x3x4xi32>
  func.return %0 : tensor<1x3x3x4xi32>
}
