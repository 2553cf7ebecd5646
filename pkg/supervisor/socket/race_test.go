//go:build race

package socket

// raced: the race detector slows all down, and finds nothing more in more of the same.
const raced = true
