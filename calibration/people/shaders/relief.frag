// Heights to their differences per texel, which blend and shrink better and need one look-up instead of three.
uniform sampler2D forms, marks; uniform float relief_scale;
layout(location = 0) out vec4 relief_out; layout(location = 1) out vec4 folds_out;
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy), last = textureSize(forms, 0) - 1;
    vec3 dx = texelFetch(forms, min(at + ivec2(1, 0), last), 0).xyz - texelFetch(forms, max(at - ivec2(1, 0), ivec2(0)), 0).xyz;
    vec3 dy = texelFetch(forms, min(at + ivec2(0, 1), last), 0).xyz - texelFetch(forms, max(at - ivec2(0, 1), ivec2(0)), 0).xyz;
    vec4 mark = texelFetch(marks, at, 0);
    relief_out = vec4(vec2(dx.x, dy.x) * relief_scale + .5, mark.rg);
    folds_out = vec4(vec4(dx.y, dy.y, dx.z, dy.z) * relief_scale + .5);
}
