// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p recognize-spikes,quantize-weights{kind=int8} | filecheck %s

// Weights that spikes meet become int8, a scale for every output behind the exact sums.
// CHECK-LABEL: func.func @spikes
func.func @spikes(%s: tensor<1x64x!bnn.spike>) -> tensor<1x32xf32> {
  %w = bnn.constant dense<-2.54> : tensor<32x64xf32> : tensor<32x64xf32>
  %0 = bnn.cast %s : (tensor<1x64x!bnn.spike>) -> tensor<1x64xf32>
  %1 = bnn.dense %0, %w : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  // CHECK: %[[Q:.+]] = bnn.constant dense<-127> : tensor<32x64xi8>
  // CHECK: %[[N:.+]] = bnn.dense %s, %[[Q]] {{.*}} : (tensor<1x64x!bnn.spike>, tensor<32x64xi8>) -> tensor<1x32xi32>
  // CHECK: %[[F:.+]] = bnn.cast %[[N]] : (tensor<1x32xi32>) -> tensor<1x32xf32>
  // CHECK: %[[S:.+]] = bnn.constant dense<2.000000e-02> : tensor<32xf32>
  // CHECK: bnn.mul %[[F]], %[[S]]
  func.return %1 : tensor<1x32xf32>
}

// Real activations keep real weights.
// CHECK-LABEL: func.func @numbers
func.func @numbers(%x: tensor<1x64xf32>) -> tensor<1x32xf32> {
  %w = bnn.constant dense<0.5> : tensor<32x64xf32> : tensor<32x64xf32>
  // CHECK: bnn.dense %x, %{{.+}} : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  %0 = bnn.dense %x, %w : (tensor<1x64xf32>, tensor<32x64xf32>) -> tensor<1x32xf32>
  func.return %0 : tensor<1x32xf32>
}
