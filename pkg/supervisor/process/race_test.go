//go:build race

package process

// The stage is a race build as well, and slow to start.
const defaultChildren = 50
