// Package page puts what a command of the bench prints into a page, so that a
// reader sees what was measured and how to measure it again.
package page

import (
	"fmt"
	"os"
	"strings"
)

// Insert replaces the block of a page that the command has made:
//
//	<!-- made by COMMAND -->
//	```
//	what it printed
//	```
func Insert(file, command, printed string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := "<!-- made by "+command+" -->\n```\n", "\n```\n"
	before, rest, ok := strings.Cut(string(text), begin)
	if !ok {
		return fmt.Errorf("%s has no block that is made by %s", file, command)
	}
	_, after, ok := strings.Cut("\n"+rest, end)
	if !ok {
		return fmt.Errorf("the block of %s in %s does not end", command, file)
	}
	return os.WriteFile(file, []byte(before+begin+strings.TrimRight(printed, "\n")+end+after), 0o644)
}
