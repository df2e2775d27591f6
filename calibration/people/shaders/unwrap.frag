in vec3 R; in vec2 K;
layout(location = 0) out vec4 position_out; layout(location = 1) out vec2 chart_out;
void main() { position_out = vec4(R, 1); chart_out = K; }
