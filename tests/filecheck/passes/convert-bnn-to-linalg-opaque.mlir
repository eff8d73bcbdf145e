// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// CHECK: model.onnx:/resize: upstream MLIR has nothing for Resize, which is no operation of bnn
func.func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
  %0 = bnn.onnx %x {operator = "Resize", domain = "", opset = 21 : i64, parameters = {}, slots = array<i64: 0>} : (tensor<1x4xf32>) -> tensor<1x4xf32> loc("model.onnx:/resize")
  func.return %0 : tensor<1x4xf32>
}
