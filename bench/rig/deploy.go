package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Builds are the names that the bench's worker knows, see bench/worker.
var Builds = []string{"library", "plain", "stock", "cstyle", "never-ready", "exits-at-start", "exits-in-bake", "dies-accepting", "dies-with-queue", "hangs", "deaf"}

// Files are builds that no worker is needed for: none of them can run.
var Files = []string{"missing", "not-executable", "wrong-machine", "cut-off"}

// Releases are the builds of the worker in a directory. The service runs
// Current, a link to one of them.
type Releases struct{ dir string }

// ReleasesIn are those that BuildReleases has made in a directory.
func ReleasesIn(dir string) Releases { return Releases{dir} }

// BuildReleases compiles the worker and makes one file of it for each build.
func BuildReleases(ctx context.Context, dir string) (Releases, error) {
	r := Releases{dir}
	if err := BuildPackages(ctx, dir, Module+"/bench/worker"); err != nil {
		return r, err
	}
	for _, build := range Builds {
		if err := duplicate(filepath.Join(dir, "worker"), filepath.Join(dir, build)); err != nil {
			return r, err
		}
	}
	return r, r.spoil()
}

// spoil makes the files of Files; one is missing as it is.
func (r Releases) spoil() error {
	whole, err := os.ReadFile(filepath.Join(r.dir, "worker"))
	if err != nil {
		return err
	}
	write := func(name string, b []byte, mode os.FileMode) {
		err = errors.Join(err, os.WriteFile(filepath.Join(r.dir, name), b, mode))
	}
	write("not-executable", whole, 0o644)
	write("cut-off", whole[:10], 0o755)
	whole[machine]++
	write("wrong-machine", whole, 0o755)
	return err
}

// machine is where an ELF header says what it is for (elf(5), e_machine).
const machine = 18

// Current is the path that a service has in exec_start.
func (r Releases) Current() string { return filepath.Join(r.dir, "current") }

// Path is the file of one build.
func (r Releases) Path(build string) string { return filepath.Join(r.dir, build) }

// Deploy lets Current name another build, as deploys do: from one to the other
// in one step.
func (r Releases) Deploy(build string) error {
	if !slices.Contains(Builds, build) && !slices.Contains(Files, build) {
		return fmt.Errorf("no build is called %q", build)
	}
	next := filepath.Join(r.dir, "next")
	if err := os.Symlink(build, next); err != nil {
		return err
	}
	return os.Rename(next, r.Current())
}

func duplicate(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
