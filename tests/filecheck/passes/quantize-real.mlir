// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p quantize-real | filecheck %s

// Without the ranges of samples nothing is rounded (tests/e2e/test_quantize_real.py gives some).
// CHECK-LABEL: func.func @real
func.func @real(%x: tensor<1x64xf32>) -> tensor<1x32xf32> {
  %w = bnn.constant dense<0.5> : tensor<32x64xf32> : tensor<32x64xf32>
  // CHECK: bnn.dense %x, %{{.+}} : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  %0 = bnn.dense %x, %w : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  func.return %0 : tensor<1x32xf32>
}
