// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p eliminate-common-subexpressions | filecheck %s

// Chains that are equal from the constants on become one; what tells where a value comes from does not matter.
// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %c = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %d = bnn.constant dense<2.0> : tensor<f32> : tensor<f32>
  %p = bnn.mul %x, %c {source = ["p", array<i64: 0>]} : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  %q = bnn.mul %x, %d {source = ["q", array<i64: 0>]} : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  %r = bnn.sub %p, %q : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK: %[[P:.+]] = bnn.mul %x, %{{.+}} {source = ["p", array<i64: 0>]}
  // CHECK-NEXT: bnn.sub %[[P]], %[[P]]
  // Near misses: another constant, another attribute.
  %e = bnn.constant dense<3.0> : tensor<f32> : tensor<f32>
  %s = bnn.mul %x, %e : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  %u = bnn.clip %r {low = 0.0 : f32, high = 1.0 : f32} : (tensor<4xf32>) -> tensor<4xf32>
  %v = bnn.clip %r {low = 0.0 : f32, high = 2.0 : f32} : (tensor<4xf32>) -> tensor<4xf32>
  %w = bnn.add %u, %v : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %z = bnn.add %s, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK: bnn.mul
  // CHECK: bnn.clip
  // CHECK-NEXT: bnn.clip
  func.return %z : tensor<4xf32>
}
