// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-onnx,reject-unknown | filecheck %s
// RUN: bnncc-opt %s -p reject-unknown | filecheck %s --check-prefix=BEFORE

// Everything that is left is told at once: the node, the operator, the reason, and what to do.
// CHECK: model.onnx:/a: operator LpNormalization is not supported: bnncc has no such operator yet
// CHECK-NEXT: hint: rewrite the model without it
// CHECK-NEXT: model.onnx:/b: operator Frobnicate of domain 'com.example' is not supported: operators of domain 'com.example' are unknown
// CHECK-NEXT: hint: export the model with standard ONNX operators
// CHECK-NEXT: 2 problems in model.onnx
// BEFORE: 2 problems in model.onnx
func.func @main(%x: tensor<1x2x4x4xf32>, %w: tensor<2x2x1x1xf32>) -> tensor<1x2x4x4xf32> {
  %a = bnn.onnx %x {operator = "LpNormalization", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0>} : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32> loc("model.onnx:/a")
  %b = bnn.onnx %a {operator = "Frobnicate", domain = "com.example", opset = 1 : i64, parameters = {}, slots = array<i64: 0>} : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32> loc("model.onnx:/b")
  %c = bnn.onnx %b, %w {operator = "Conv", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0, 1>} : (tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>) -> tensor<1x2x4x4xf32> loc("model.onnx:/c")
  // Near misses: TVM's importer takes the convolution above, whose weight is no constant; this one is known.
  %d = bnn.onnx %c {operator = "Relu", domain = "", opset = 17 : i64, parameters = {}, slots = array<i64: 0>} : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32> loc("model.onnx:/d")
  func.return %d : tensor<1x2x4x4xf32>
}
