// SPDX-License-Identifier: Apache-2.0
// RUN: bnncc-opt %s -p 'call-library-kernels{names=binary_dense}' | filecheck %s

// The contraction that is named becomes a call of a function that is declared once; the other one stays.
// CHECK-LABEL: func.func @twice
// CHECK-NEXT: func.call @binary_dense_4x2_8x2_to_4x8(%x, %w, %sums) : (memref<4x2xi32>, memref<8x2xi32>, memref<4x8xi32>) -> ()
// CHECK-NEXT: func.call @binary_dense_4x2_8x2_to_4x8(%x, %w, %sums)
// CHECK-NEXT: linalg.generic
// CHECK-SAME: library_call = "real_dense"
// CHECK: func.func private @binary_dense_4x2_8x2_to_4x8(memref<4x2xi32>, memref<8x2xi32>, memref<4x8xi32>)
// CHECK-NOT: func.func private
#x = affine_map<(n, o, k) -> (n, k)>
#w = affine_map<(n, o, k) -> (o, k)>
#sums = affine_map<(n, o, k) -> (n, o)>
func.func @twice(%x: memref<4x2xi32>, %w: memref<8x2xi32>, %sums: memref<4x8xi32>) {
  linalg.generic {indexing_maps = [#x, #w, #sums], iterator_types = ["parallel", "parallel", "reduction"], library_call = "binary_dense"} ins(%x, %w : memref<4x2xi32>, memref<8x2xi32>) outs(%sums : memref<4x8xi32>) {
  ^bb0(%a: i32, %b: i32, %sum: i32):
    %differ = arith.xori %a, %b : i32
    %bits = math.ctpop %differ : i32
    %new = arith.addi %sum, %bits : i32
    linalg.yield %new : i32
  }
  linalg.generic {indexing_maps = [#x, #w, #sums], iterator_types = ["parallel", "parallel", "reduction"], library_call = "binary_dense"} ins(%x, %w : memref<4x2xi32>, memref<8x2xi32>) outs(%sums : memref<4x8xi32>) {
  ^bb0(%a: i32, %b: i32, %sum: i32):
    %differ = arith.xori %a, %b : i32
    %bits = math.ctpop %differ : i32
    %new = arith.addi %sum, %bits : i32
    linalg.yield %new : i32
  }
  linalg.generic {indexing_maps = [#x, #w, #sums], iterator_types = ["parallel", "parallel", "reduction"], library_call = "real_dense"} ins(%x, %w : memref<4x2xi32>, memref<8x2xi32>) outs(%sums : memref<4x8xi32>) {
  ^bb0(%a: i32, %b: i32, %sum: i32):
    %product = arith.muli %a, %b : i32
    %new = arith.addi %sum, %product : i32
    linalg.yield %new : i32
  }
  func.return
}
