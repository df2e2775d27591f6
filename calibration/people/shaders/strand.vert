in vec3 position; in vec3 tangent; in vec4 shape; in vec3 colour;
uniform mat4 view_projection; uniform vec3 camera; uniform vec3 mean_skin; uniform float sample_height;  // of the picture's 2
out vec3 P; out vec3 T; out vec4 Q; out vec3 C;
void main() {
    vec3 across = normalize(cross(tangent, normalize(camera - position)) + vec3(1e-5));
    // Hairs finer than a sample would break into dots: fewer, wider ones of paler colour darken the picture as much.
    vec4 wide = transpose(view_projection)[1], depth = transpose(view_projection)[3];
    vec3 scale = wide.xyz - depth.xyz * dot(wide.xyz, depth.xyz) / dot(depth.xyz, depth.xyz);
    float far = dot(depth, vec4(position, 1)), finest = .8 * sample_height * far / length(scale);
    float width = max(shape.y, min(finest, .006)), kept = clamp(.0027 / finest, .5, 1.);
    P = position + across * shape.x * (shape.w > kept ? 0. : width); T = tangent; Q = shape;
    // Before skin, that is: brows have painted hairs behind them (shape.z tells lashes from brows).
    C = mix(mean_skin, colour, mix(1., mix(.3, 1., shape.y / width), smoothstep(.6, 1., shape.z)));
    gl_Position = view_projection * vec4(P, 1);
}
