package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// HasCompiler says whether there is a C compiler, which plugins cannot be built
// without.
func HasCompiler() bool {
	_, err := exec.LookPath("gcc")
	return err == nil
}

// BuildPlugins compiles bench/swap into dir, and n plugins for it and one that
// cannot start. It returns the plugins, with the broken one last. The first time on
// a machine it compiles the standard library for plugins, which takes minutes.
func BuildPlugins(ctx context.Context, dir string, n int) (host string, plugins []string, err error) {
	host = filepath.Join(dir, "swap")
	if err := cgo(ctx, "build", "-o", host, Module+"/bench/swap"); err != nil {
		return "", nil, err
	}
	source, err := pluginSource(ctx)
	if err != nil {
		return "", nil, err
	}
	for i := range n + 1 {
		more := ""
		if i == n {
			more = "func init() { os.Exit(1) }\n"
		}
		plugin, err := buildPlugin(ctx, fmt.Sprintf("%s/handler%d", dir, i), fmt.Sprintf("%s\n// Build %d.\n%s", source, i, more))
		if err != nil {
			return "", nil, err
		}
		plugins = append(plugins, plugin)
	}
	return host, plugins, nil
}

func pluginSource(ctx context.Context) ([]byte, error) {
	dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", Module+"/bench/swap/handler").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot find the plugin's source: %w", err)
	}
	return os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "handler.go"))
}

// buildPlugin compiles a plugin from a text. A process opens plugins of one name
// only once; that of a plugin from a file is a hash of its text.
func buildPlugin(ctx context.Context, path, text string) (string, error) {
	if err := os.WriteFile(path+".go", []byte(text), 0o644); err != nil {
		return "", err
	}
	return path + ".so", cgo(ctx, "build", "-buildmode=plugin", "-o", path+".so", path+".go")
}

func cgo(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build with cgo: %w\n%s", err, out)
	}
	return nil
}
