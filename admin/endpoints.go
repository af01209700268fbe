package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// Endpoint is one command of the operator: GET for what only looks, POST for what does something, DELETE for what ends it.
type Endpoint struct {
	Method string // GET, POST or DELETE
	Path   string // below /api/v1/
	// Do returns what is encoded as JSON. args are those of the request's query. *BadRequest is answered with 400, any other error with 500.
	Do func(ctx context.Context, args url.Values) (any, error)
}

// BadRequest says that what was asked for does not exist or makes no sense; the operator is shown the text.
type BadRequest struct{ Why string }

// Error returns the text.
func (e *BadRequest) Error() string { return e.Why }

// Failure is the body of an answer that is not 200.
type Failure struct {
	Error string `json:"error"`
}

// browserRefused answers what a page in a browser asks for: an operator's browser is no operator.
const browserRefused = "pages of a browser may not do this"

func (s *Server) endpoint(e Endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Header.Get("Origin") != "" {
			http.Error(w, browserRefused, http.StatusForbidden)
			return
		}
		v, err := e.Do(r.Context(), r.URL.Query())
		code := http.StatusOK
		if err != nil {
			v, code = Failure{err.Error()}, http.StatusInternalServerError
			var bad *BadRequest
			if errors.As(err, &bad) {
				code = http.StatusBadRequest
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			s.o.Logger.Debug("answer not written", "path", e.Path, "err", err)
		}
	}
}
