// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p convert-bnn-to-linalg | filecheck %s

// A neuron's state is an argument and a result; its region is its arithmetic.
// CHECK-LABEL: func.func @step
// CHECK: arith.addf
// CHECK: arith.cmpf ogt
// CHECK: arith.select
// CHECK: library_call = "pack_bits"
func.func @step(%x: tensor<1x4xf32>, %mem: tensor<1x4xf32>) -> (tensor<1x4x!bnn.spike>, tensor<1x4xf32>) {
  %spk, %new = "bnn.neuron"(%x, %mem) <{kind = "if", fire = "gt", reset = "zero", operandSegmentSizes = array<i32: 1, 1>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%a: tensor<1x4xf32>, %v: tensor<1x4xf32>):
    %theta = bnn.constant dense<1.0> : tensor<f32> : tensor<f32>
    %u = bnn.add %v, %a : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    %fired = bnn.compare %u, %theta {kind = "gt"} : (tensor<1x4xf32>, tensor<f32>) -> tensor<1x4xi1>
    %s = bnn.cast %fired : (tensor<1x4xi1>) -> tensor<1x4x!bnn.spike>
    %zero = bnn.constant dense<0.0> : tensor<f32> : tensor<f32>
    %w = bnn.select %fired, %zero, %u : (tensor<1x4xi1>, tensor<f32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %s, %w : tensor<1x4x!bnn.spike>, tensor<1x4xf32>
  }) : (tensor<1x4xf32>, tensor<1x4xf32>) -> (tensor<1x4x!bnn.spike>, tensor<1x4xf32>)
  func.return %spk, %new : tensor<1x4x!bnn.spike>, tensor<1x4xf32>
}

// The loop carries the state, which is written into its own memory, and what is collected.
// CHECK-LABEL: func.func @loop
// CHECK: tensor.empty() : tensor<5x1x4xf32>
// CHECK: scf.for %[[STEP:.+]] = %{{.+}} to %{{.+}} step %{{.+}} iter_args(%[[STATE:.+]] = %{{.+}}, %[[ALL:.+]] = %{{.+}}) -> (tensor<1x4xf32>, tensor<5x1x4xf32>)
// CHECK: tensor.extract_slice %{{.+}}[%[[STEP]], 0, 0] [1, 1, 4]
// CHECK: arith.mulf
// CHECK: arith.addf
// CHECK: tensor.insert_slice %{{.+}} into %[[ALL]][%[[STEP]], 0, 0] [1, 1, 4]
// CHECK: linalg.copy ins(%{{.+}} : tensor<1x4xf32>) outs(%[[STATE]] : tensor<1x4xf32>)
// CHECK: scf.yield
func.func @loop(%x: tensor<5x1x4xf32>, %start: tensor<1x4xf32>, %gain: tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<5x1x4xf32>) {
  %last, %all = "bnn.scan"(%x, %start, %gain) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0>, resultSegmentSizes = array<i32: 1, 1>}> ({
  ^bb0(%slice: tensor<1x4xf32>, %state: tensor<1x4xf32>, %g: tensor<1x4xf32>):
    %m = bnn.mul %slice, %g : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    %s = bnn.add %state, %m : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %s, %m : tensor<1x4xf32>, tensor<1x4xf32>
  }) : (tensor<5x1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>) -> (tensor<1x4xf32>, tensor<5x1x4xf32>)
  func.return %last, %all : tensor<1x4xf32>, tensor<5x1x4xf32>
}

// As often as an input says.
// CHECK-LABEL: func.func @count
// CHECK: %[[N:.+]] = tensor.extract %{{.+}}[] : tensor<i64>
// CHECK: %[[END:.+]] = arith.index_cast %[[N]] : i64 to index
// CHECK: scf.for %{{.+}} = %{{.+}} to %[[END]]
func.func @count(%x: tensor<5x1x4xf32>, %start: tensor<1x4xf32>, %n: tensor<i64>) -> tensor<1x4xf32> {
  %final = "bnn.scan"(%x, %start, %n) <{trips = 5 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>}> ({
  ^bb0(%slice: tensor<1x4xf32>, %state: tensor<1x4xf32>):
    %s = bnn.add %state, %slice : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<1x4xf32>
    bnn.yield %s : tensor<1x4xf32>
  }) : (tensor<5x1x4xf32>, tensor<1x4xf32>, tensor<i64>) -> tensor<1x4xf32>
  func.return %final : tensor<1x4xf32>
}
