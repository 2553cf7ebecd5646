//go:build cgo

package spawn

// The C library has told the kernel where each thread keeps its place in memory
// (rseq(2)); without that memory the kernel would end the template.
const shrinkable = false
