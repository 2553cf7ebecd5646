// Handler is the plugin that bench/swap serves with: the part of bench/worker that
// answers.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Handler is what the host looks up.
func Handler(w http.ResponseWriter, r *http.Request) {
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "%d %s %s\n", os.Getpid(), r.Method, r.URL.RequestURI())
	if _, err := io.Copy(&answer, http.MaxBytesReader(w, r.Body, 1<<20)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if take, err := time.ParseDuration(r.URL.Query().Get("take")); err == nil {
		time.Sleep(take)
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Len()))
	w.Write(answer.Bytes())
}

func main() {}
