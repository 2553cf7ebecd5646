//go:build race

package unit

// raced: the race detector slows the walk tenfold and has nothing to find in it,
// so it looks at one Old less.
const raced = true
