package process

import (
	"os"
	"strings"
)

// shellOf reads the one field of passwd(5) that os/user leaves out.
func shellOf(name string) string {
	const fields = 7
	text, _ := os.ReadFile("/etc/passwd")
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) == fields && f[0] == name && f[fields-1] != "" {
			return f[fields-1]
		}
	}
	return "/bin/sh"
}
