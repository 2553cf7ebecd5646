package socket

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// lookup is the number of a user or group in one of the files of /etc; -1 for
// an empty name, which leaves the owner as it is. It reads the file itself:
// os/user takes $USER for who we are. A number is what it says, if it can be an
// owner: 2^32-1 means "unchanged" to the kernel, and 65535 did so once.
func lookup(file, name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		if id == 1<<32-1 || id == 1<<16-1 || name != strconv.FormatUint(id, 10) {
			return 0, fmt.Errorf("%q is no id", name)
		}
		return int(id), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		field := strings.Split(s.Text(), ":")
		if len(field) >= 3 && field[0] == name {
			return lookup(file, field[2])
		}
	}
	return 0, fmt.Errorf("%q is not in %s; a number works as well", name, file)
}
