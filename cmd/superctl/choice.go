package main

import (
	"fmt"
	"slices"
	"strings"
)

// A choice is a flag that takes one of a few words.
type choice struct {
	of  []string
	is  *string
	set func(string) // told of each change; may be nil
}

func (c *choice) String() string { return *c.is }

// Type is what stands for a value in help texts.
func (c *choice) Type() string { return strings.Join(c.of, "|") }

func (c *choice) Set(word string) error {
	if !slices.Contains(c.of, word) {
		return fmt.Errorf("it must be %s", strings.Join(c.of, " or "))
	}
	*c.is = word
	if c.set != nil {
		c.set(word)
	}
	return nil
}
