package gauntlet

import (
	"os"
	"path/filepath"
)

// mkdir returns the path of a new directory. That it could not be made comes
// out when it is used.
func mkdir(parent, name string) string {
	path := filepath.Join(parent, name)
	os.Mkdir(path, 0o755)
	return path
}
