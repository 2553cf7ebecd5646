package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// Every configuration that a reader may copy is one, for root as for anybody
// else. Users and groups are those of the reader's machine.
func TestConfigurationsAreOnes(t *testing.T) {
	texts := map[string]string{}
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if b.lang == "toml" {
				texts[page+": "+b.text] = b.text
			}
		}
	}
	for _, pattern := range []string{"../examples/*/*.toml", "../etc/*/*.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts[file] = string(b)
		}
	}
	for where, text := range texts {
		for _, root := range []bool{true, false} {
			o := config.Options{Root: root, Environ: []string{"HOME=/home/reader", "PATH=/usr/bin:/bin"}}
			_, problems := config.Decode("/srv/shop/shop.toml", []byte(text), o)
			for _, p := range problems {
				if !ofTheMachine(p) {
					t.Errorf("%s\n%v", where, p)
				}
			}
		}
	}
}

func ofTheMachine(p config.Problem) bool {
	return p.Warning || strings.HasSuffix(p.Key, "user") || strings.HasSuffix(p.Key, "group")
}
