//go:build race

package process

// The programs are race builds as well, and slow to start.
const defaultChildren = 50
