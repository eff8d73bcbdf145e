// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// sign(0) = +1: one plane, of what is at least 0.
// CHECK-LABEL: func.func @plus(%{{.+}}: tensor<2x40xf32>) -> tensor<2x2xi32>
// CHECK: arith.cmpf oge
// 40 bits are filled up with zeros, split into words and packed.
// CHECK: tensor.insert_slice {{.+}} : tensor<2x40xi1> into tensor<2x64xi1>
// CHECK: tensor.expand_shape {{.+}} : tensor<2x64xi1> into tensor<2x2x32xi1>
// CHECK: library_call = "pack_bits"
// CHECK: linalg.index 2
// CHECK: arith.shli
// CHECK-NEXT: arith.ori
func.func @plus(%x: tensor<2x40xf32>) -> tensor<2x40x!bnn.bipolar> {
  %0 = bnn.binarize %x {zero = 1 : i64} : (tensor<2x40xf32>) -> tensor<2x40x!bnn.bipolar>
  func.return %0 : tensor<2x40x!bnn.bipolar>
}

// sign(0) = -1.
// CHECK-LABEL: func.func @minus
// CHECK: arith.cmpi sgt
func.func @minus(%x: tensor<2x40xi32>) -> tensor<2x40x!bnn.bipolar> {
  %0 = bnn.binarize %x {zero = -1 : i64} : (tensor<2x40xi32>) -> tensor<2x40x!bnn.bipolar>
  func.return %0 : tensor<2x40x!bnn.bipolar>
}

// sign(0) = 0: a plane of signs, and one that says what is not 0; NaN is.
// CHECK-LABEL: func.func @zero(%{{.+}}: tensor<2x40xf32>) -> (tensor<2x2xi32>, tensor<2x2xi32>)
// CHECK: arith.cmpf ogt
// CHECK: arith.cmpf ogt
// CHECK-NEXT: arith.cmpf olt
// CHECK-NEXT: arith.ori
// CHECK-COUNT-2: library_call = "pack_bits"
func.func @zero(%x: tensor<2x40xf32>) -> tensor<2x40x!bnn.ternary> {
  %0 = bnn.binarize %x {zero = 0 : i64} : (tensor<2x40xf32>) -> tensor<2x40x!bnn.ternary>
  func.return %0 : tensor<2x40x!bnn.ternary>
}

// Thresholds and signs are constants of one number a channel.
// CHECK-LABEL: func.func @threshold
// CHECK: arith.constant dense<[1, -2, 3]> : tensor<3xi32>
// CHECK: arith.constant dense<[0, 1, 0]> : tensor<3xi8>
// CHECK: affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d1)>
// CHECK: arith.cmpi sge
// CHECK-NEXT: arith.xori
// CHECK: library_call = "pack_bits"
func.func @threshold(%x: tensor<2x3xi32>) -> tensor<2x3x!bnn.bipolar> {
  %0 = bnn.threshold %x {thresholds = dense<[1, -2, 3]> : tensor<3xi32>, signs = dense<[1, -1, 1]> : tensor<3xi8>} : (tensor<2x3xi32>) -> tensor<2x3x!bnn.bipolar>
  func.return %0 : tensor<2x3x!bnn.bipolar>
}

// Bits of channels with sign -1 are negated word by word: 5 is 101.
// CHECK-LABEL: func.func @flip(%{{.+}}: tensor<2x1xi32>) -> tensor<2x1xi32>
// CHECK: arith.constant dense<5> : tensor<1x1xi32>
// CHECK: arith.xori
// CHECK-NOT: library_call
func.func @flip(%x: tensor<2x3x!bnn.bipolar>) -> tensor<2x3x!bnn.bipolar> {
  %0 = bnn.flip %x {signs = dense<[-1, 1, -1]> : tensor<3xi8>} : (tensor<2x3x!bnn.bipolar>) -> tensor<2x3x!bnn.bipolar>
  func.return %0 : tensor<2x3x!bnn.bipolar>
}
