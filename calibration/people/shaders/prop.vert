in vec3 position; in vec3 normal; in float slot; in float shade; in float detail;
uniform mat4 view_projection, model; uniform vec3 camera; uniform float forward;
out vec3 P; out vec3 N; out vec3 L; out float S; out float A; out float D;
void main() {
    vec4 x = model * vec4(position, 1);
    P = x.xyz; N = mat3(model) * normal; L = position; S = slot; A = shade; D = detail;
    gl_Position = view_projection * x;
    // What presses hair down wins against strands that stand a little before it.
    vec4 nearer = view_projection * vec4(P + normalize(camera - P) * forward, 1);
    gl_Position.z = nearer.z / nearer.w * gl_Position.w;
}
