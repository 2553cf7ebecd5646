//go:build !race

package unit

const raced = false
