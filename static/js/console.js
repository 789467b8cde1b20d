// Everything here is enhancement: each page works without it.
import "./csrf.js";
import "./time.js";
import "./copy.js";
import "./forms.js";
import "./keys.js";
import "./palette.js";
import "./live.js";
import "./drawer.js";
import "./reveal.js";
