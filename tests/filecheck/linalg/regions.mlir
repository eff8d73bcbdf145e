// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg --print-debuginfo | filecheck %s

// A fused region is what it holds, and what is built carries the locations of what it comes from.
// CHECK-LABEL: func.func @region
func.func @region(%x: tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar> {
  %0 = "bnn.fused"(%x) ({
  ^bb0(%a: tensor<2x3xf32>):
    %c = bnn.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32> : tensor<3xf32> loc("model.onnx:Scale")
    // CHECK: arith.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00]> : tensor<3xf32> loc("model.onnx:Scale")
    %s = bnn.mul %a, %c : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32> loc("model.onnx:Mul")
    // CHECK: arith.mulf {{.+}} loc("model.onnx:Mul")
    %b = bnn.binarize %s {zero = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar> loc("model.onnx:Sign")
    // CHECK: arith.cmpf {{.+}} loc("model.onnx:Sign")
    // CHECK: library_call = "pack_bits"
    bnn.yield %b : tensor<2x3x!bnn.bipolar>
  }) : (tensor<2x3xf32>) -> tensor<2x3x!bnn.bipolar>
  func.return %0 : tensor<2x3x!bnn.bipolar>
}
