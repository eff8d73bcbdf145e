// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s --print-debuginfo | filecheck %s

// CHECK: bnn.neg %{{.+}} : (tensor<2xf32>) -> tensor<2xf32> loc("model.onnx:/act/Neg")
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = bnn.neg %x {source = ["/act/Neg_output_0", array<i64: 0>]} : (tensor<2xf32>) -> tensor<2xf32> loc("model.onnx:/act/Neg")
  func.return %0 : tensor<2xf32>
}
