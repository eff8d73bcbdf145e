// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// A constant of a domain is packed words: the signs +1, -1, +1 are 101.
// CHECK-LABEL: func.func @constant
// CHECK: arith.constant dense<5> : tensor<1x1xi32>
func.func @constant() -> tensor<1x3x!bnn.bipolar> {
  %0 = bnn.constant dense<[[1, -1, 1]]> : tensor<1x3xi8> : tensor<1x3x!bnn.bipolar>
  func.return %0 : tensor<1x3x!bnn.bipolar>
}

// ONNX nodes that upstream MLIR has something for.
// CHECK-LABEL: func.func @node
// CHECK: tensor.insert_slice {{.+}}[0, 0, 0, 0, 5] [1, 2, 3, 4, 5]
func.func @node(%x: tensor<1x2x3x4x5xf32>) -> tensor<1x2x3x4x10xf32> {
  %0 = bnn.onnx %x, %x {operator = "Concat", domain = "", opset = 17 : i64, parameters = {axis = 4 : i64}, slots = array<i64: 0, 1>} : (tensor<1x2x3x4x5xf32>, tensor<1x2x3x4x5xf32>) -> tensor<1x2x3x4x10xf32>
  func.return %0 : tensor<1x2x3x4x10xf32>
}
