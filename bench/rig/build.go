package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Module is where the packages below are found.
const Module = "github.com/supervisord-go/supervisord"

// Binaries are the two programs that are measured, in one directory.
type Binaries struct{ Dir string }

func (b Binaries) Supervisord() string { return filepath.Join(b.Dir, "supervisord") }
func (b Binaries) Superctl() string    { return filepath.Join(b.Dir, "superctl") }

// Build compiles both from the module that the working directory is in.
func Build(ctx context.Context, dir string) (Binaries, error) {
	return Binaries{dir}, BuildPackages(ctx, dir, Module+"/cmd/supervisord", Module+"/cmd/superctl")
}

// BuildPackages compiles main packages into dir as a release has them: without
// cgo, each by the last part of its path.
func BuildPackages(ctx context.Context, dir string, packages ...string) error {
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, packages...)
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", strings.Join(packages, " "), err, out)
	}
	return nil
}
