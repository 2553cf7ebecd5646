//go:build !race

package process

const defaultChildren = 1000
