// A hair painted on the skin: soft at both edges.
in vec4 C; in float S;
layout(location = 0) out vec4 colour_out;
void main() { colour_out = vec4(sqrt(C.rgb), C.a * (1. - S * S)); }
