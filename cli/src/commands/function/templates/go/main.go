// Answers every request with a greeting.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"example.com/NAME/wasihttp"
)

func init() { wasihttp.Handle(http.HandlerFunc(answer)) }

// A function has no program: its handler is called.
func main() {}

func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	greeting := os.Getenv("GREETING")
	if greeting == "" {
		greeting = "Hello"
	}
	name := r.URL.Query().Get("name")
	if name == "" {
		name = "world"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s, %s!\n", greeting, name)
	fmt.Fprintf(w, "You sent %s %s with %d bytes by %s.\n", r.Method, r.URL.Path, len(body), r.UserAgent())
}
