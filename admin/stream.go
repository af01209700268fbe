package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

const requestBytesMax = 1 << 20

// Stream is an operation that takes a while and tells how far it is: a POST whose answer is one JSON value per line.
type Stream struct {
	Path string // for example "/api/v1/repair"
	// Run gets the body of the request, and tells every value that is to be a line. It returns when the operation has ended, which the caller's going
	// away ends early; an error becomes the last line, {"error": text}, unless nothing was told yet: then it is the answer, with status 400.
	Run func(ctx context.Context, body []byte, tell func(any)) error
}

func (s *Server) stream(v Stream) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			http.Error(w, browserRefused, http.StatusForbidden)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestBytesMax))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		told := false
		e := json.NewEncoder(w)
		flush := http.NewResponseController(w)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		tell := func(value any) {
			if !told {
				w.Header().Set("Content-Type", "application/x-ndjson")
				told = true
			}
			if e.Encode(value) != nil || flush.Flush() != nil {
				cancel() // nobody reads it
			}
		}
		switch err := v.Run(ctx, body, tell); {
		case err == nil:
		case !told:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			tell(map[string]string{"error": err.Error()})
		}
	}
}
