// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// CHECK-LABEL: func.func @select
// CHECK: arith.select {{.+}} : f32
func.func @select(%c: tensor<2x3xi1>, %x: tensor<2x3xf32>, %y: tensor<3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.select %c, %x, %y : (tensor<2x3xi1>, tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// Of ternary values sign and mask are chosen by themselves.
// CHECK-LABEL: func.func @select_ternary
// CHECK-COUNT-2: arith.select {{.+}} : i1
func.func @select_ternary(%c: tensor<2x3xi1>, %x: tensor<2x3x!bnn.ternary>, %y: tensor<2x3x!bnn.ternary>) -> tensor<2x3x!bnn.ternary> {
  %0 = bnn.select %c, %x, %y : (tensor<2x3xi1>, tensor<2x3x!bnn.ternary>, tensor<2x3x!bnn.ternary>) -> tensor<2x3x!bnn.ternary>
  func.return %0 : tensor<2x3x!bnn.ternary>
}

// A bound that is infinite is none.
// CHECK-LABEL: func.func @clip
// CHECK: arith.maximumf
// CHECK-NOT: arith.minimumf
// CHECK-LABEL: func.func @clip_both
// CHECK: arith.maximumf
// CHECK: arith.minimumf
func.func @clip(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.clip %x {low = 0.0 : f32, high = 0x7F800000 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}
func.func @clip_both(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.clip %x {low = -1.0 : f32, high = 1.0 : f32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @prelu
// CHECK: arith.cmpf oge
// CHECK: arith.mulf
// CHECK: arith.select
func.func @prelu(%x: tensor<2x3xf32>, %y: tensor<3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.prelu %x, %y : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// scale (x - mean) / sqrt(variance + epsilon) + bias, in this order, as ONNX has it.
// CHECK-LABEL: func.func @batch_norm
// CHECK: arith.subf
// CHECK: arith.mulf
// CHECK: arith.addf
// CHECK: math.sqrt
// CHECK: arith.divf
// CHECK-NEXT: arith.addf
func.func @batch_norm(%x: tensor<2x3xf32>, %p: tensor<3xf32>) -> tensor<2x3xf32> {
  %0 = bnn.batch_norm %x, %p, %p, %p, %p {epsilon = 1.000000e-03 : f32} : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}

// Numbers to numbers, as ONNX Cast does.
// CHECK-LABEL: func.func @casts
// CHECK: arith.fptosi
// CHECK: arith.sitofp
// CHECK: arith.extsi
func.func @casts(%x: tensor<2x3xf32>, %i: tensor<2x3xi32>, %b: tensor<2x3xi8>) -> (tensor<2x3xi32>, tensor<2x3xf32>, tensor<2x3xi32>) {
  %0 = bnn.cast %x : (tensor<2x3xf32>) -> tensor<2x3xi32>
  %1 = bnn.cast %i : (tensor<2x3xi32>) -> tensor<2x3xf32>
  %2 = bnn.cast %b : (tensor<2x3xi8>) -> tensor<2x3xi32>
  func.return %0, %1, %2 : tensor<2x3xi32>, tensor<2x3xf32>, tensor<2x3xi32>
}

// Bits to numbers: bit b of a word by its place; then 2 bit - 1.
// CHECK-LABEL: func.func @signs
// CHECK: arith.shrui
// CHECK: arith.trunci {{.+}} : i32 to i1
func.func @signs(%x: tensor<2x40x!bnn.bipolar>) -> tensor<2x40xf32> {
  %0 = bnn.cast %x : (tensor<2x40x!bnn.bipolar>) -> tensor<2x40xf32>
  func.return %0 : tensor<2x40xf32>
}

// Numbers to the planes of 0 to 3, as differences to the lowest.
// CHECK-LABEL: func.func @levels(%{{.+}}: tensor<2x3xf32>) -> (tensor<2x1xi32>, tensor<2x1xi32>)
// CHECK-COUNT-2: library_call = "pack_bits"
func.func @levels(%x: tensor<2x3xf32>) -> tensor<2x3x!bnn.level<0, 3>> {
  %0 = bnn.cast %x : (tensor<2x3xf32>) -> tensor<2x3x!bnn.level<0, 3>>
  func.return %0 : tensor<2x3x!bnn.level<0, 3>>
}

// Entries of a table: the rows lie one after the other, and each begins at its first number.
// CHECK-LABEL: func.func @lookup
// CHECK-DAG: arith.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00, 4.000000e+00]> : tensor<4xf32>
// CHECK-DAG: arith.constant dense<[1, 2]> : tensor<2xi32>
// CHECK: linalg.generic
// CHECK: arith.addi
// CHECK: arith.index_cast
// CHECK: tensor.extract
func.func @lookup(%x: tensor<3x2xi32>) -> tensor<3x2xf32> {
  %0 = bnn.lookup %x {table = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>, first = dense<[-1, 0]> : tensor<2xi32>} : (tensor<3x2xi32>) -> tensor<3x2xf32>
  func.return %0 : tensor<3x2xf32>
}
