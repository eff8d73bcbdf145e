// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p compare-directly --split-input-file | filecheck %s

// A membrane less its threshold, compared with 0.

// CHECK: func.func @main
// CHECK: %[[one:.+]] = bnn.constant dense<1.000000e+00>
// CHECK: bnn.compare %x, %[[one]] {kind = "gt"}
// CHECK: bnn.compare %x, %{{.+}} {kind = "ge"}
func.func @main(%x: tensor<1x2xf32>) -> (tensor<1x2xi1>, tensor<1x2xi1>) attributes {bnn.inputs = ["x"], bnn.outputs = ["y", "z"]} {
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %theta = bnn.constant dense<[0.5, 0.75]> : tensor<2xf32> : tensor<2xf32>
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %d = bnn.add %x, %minus : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %b = bnn.compare %d, %zero {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %e = bnn.sub %x, %theta : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %c = bnn.compare %e, %zero {kind = "ge"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  func.return %b, %c : tensor<1x2xi1>, tensor<1x2xi1>
}

// -----

// Compared with something else, less something infinite, or less what is no constant: the sum stays.

// CHECK: func.func @main
// CHECK: %[[d:.+]] = bnn.add %x
// CHECK: bnn.compare %[[d]]
// CHECK: %[[e:.+]] = bnn.add %x
// CHECK: bnn.compare %[[e]]
// CHECK: %[[g:.+]] = bnn.sub %x, %y
// CHECK: bnn.compare %[[g]]
func.func @main(%x: tensor<1x2xf32>, %y: tensor<1x2xf32>) -> (tensor<1x2xi1>, tensor<1x2xi1>, tensor<1x2xi1>) attributes {bnn.inputs = ["x", "y"], bnn.outputs = ["u", "v", "w"]} {
  %minus = bnn.constant dense<-1.0> : tensor<f32> : tensor<f32>
  %infinite = bnn.constant dense<"0x0000807F"> : tensor<f32> : tensor<f32>
  %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
  %d = bnn.add %x, %minus : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %a = bnn.compare %d, %minus {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %e = bnn.add %x, %infinite : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xf32>
  %b = bnn.compare %e, %zero {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  %g = bnn.sub %x, %y : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %c = bnn.compare %g, %zero {kind = "gt"} : (tensor<1x2xf32>, tensor<f32>) -> tensor<1x2xi1>
  func.return %a, %b, %c : tensor<1x2xi1>, tensor<1x2xi1>, tensor<1x2xi1>
}
